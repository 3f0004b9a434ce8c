// The scheduler alone: sequences are "computed" by counting.
#include <algorithm>
#include <memory>

#include "catch.h"
#include "engine/scheduler.h"
#include "engine_fixture.h"
#include "traffic.h"

using namespace bolide;
using namespace bolide::test;

namespace {

class Bench {
 public:
  explicit Bench(const SchedulerLimits& limits) : limits_(limits), scheduler_(limits), kv(limits) {}

  Sequence& add(int32_t prompt_tokens, int32_t max_output, bool prompt_logprobs = false) {
    return add(std::vector<int32_t>(static_cast<size_t>(prompt_tokens), 1), max_output, prompt_logprobs);
  }
  Sequence& add(std::vector<int32_t> prompt, int32_t max_output, bool prompt_logprobs = false, float repetition_penalty = 1.0f) {
    SamplingParams params;
    params.prompt_logprobs = prompt_logprobs;
    params.repetition_penalty = repetition_penalty;
    const SequenceId id = next_++;
    sequences_.push_back(std::make_unique<Sequence>(id, std::move(prompt), params, sink_, nullptr, max_output, 0));
    scheduler_.add(*sequences_.back());
    return *sequences_.back();
  }

  void remove(Sequence& sequence) {
    scheduler_.remove(sequence);
    sequences_.erase(std::find_if(sequences_.begin(), sequences_.end(), [&](const auto& s) { return s.get() == &sequence; }));
  }

  // Plans a step, checks what every step must keep, and computes it.
  const std::vector<ScheduledWork>& step() {
    REQUIRE(++steps_ < 30000);
    const std::vector<ScheduledWork>& work = scheduler_.plan();
    check(work);
    kv.run(work, scheduler_.copies());
    std::vector<Sequence*> done;
    for (const ScheduledWork& item : work) {
      Sequence& sequence = *item.sequence;
      for (int32_t row = item.logprob_begin; row < item.logprob_end; ++row) sequence.set_prompt_logprob(row, 0.0f);
      if (item.draws) sequence.append(Traffic::drawn(sequence.id));
      if ((sequence.max_output == 0 && sequence.logprobs_known()) ||
          (sequence.max_output > 0 && sequence.output_tokens() == sequence.max_output))
        done.push_back(&sequence);
    }
    scheduler_.check();
    for (Sequence* sequence : done) {
      finished.push_back(sequence->id);
      if (sequence->params.prompt_logprobs) REQUIRE(sequence->next_logprob_row() == sequence->logprob_rows_end());
      remove(*sequence);
    }
    scheduler_.check();
    return work;
  }

  Scheduler& scheduler() { return scheduler_; }
  std::vector<std::unique_ptr<Sequence>>& sequences() { return sequences_; }
  std::vector<SequenceId> finished;

 private:
  void check(const std::vector<ScheduledWork>& work) {
    scheduler_.check();
    REQUIRE(work.empty() == sequences_.empty());
    int32_t tokens = 0, rows = 0, table = 0, history = 0;
    bool prefill_seen = false;
    for (const ScheduledWork& item : work) {
      REQUIRE(item.tokens > 0);
      REQUIRE(item.begin + item.tokens == item.sequence->computed);
      REQUIRE(item.sequence->chunks.size() * static_cast<size_t>(limits_.chunk_tokens) >= static_cast<size_t>(item.begin + item.tokens));
      const auto known = static_cast<int32_t>(item.sequence->tokens.size());
      REQUIRE(item.begin + item.tokens <= known);
      REQUIRE(item.draws == (item.sequence->max_output > 0 && item.begin + item.tokens == known));
      REQUIRE(item.sequence->under_way == (item.draws ? 1 : 0));
      REQUIRE(item.logprob_begin <= item.logprob_end);
      REQUIRE(item.logprob_end - item.logprob_begin <= item.tokens);
      tokens += item.tokens;
      for_each_piece(item.begin, item.begin + item.tokens, limits_,
                     [&](int32_t, int32_t end) { table += (end + limits_.chunk_tokens - 1) / limits_.chunk_tokens; });
      if (item.draws && item.sequence->penalised()) history += static_cast<int32_t>(item.sequence->tokens.size());
      if (limits_.whole_pieces) check_pieces(item);
      rows += item.logprob_end - item.logprob_begin + (item.draws ? 1 : 0);
      const bool one_left = item.begin + 1 == known;
      if (!one_left) prefill_seen = true;
      // Decoding first; what has just been admitted again, and found all but a token in the cache, comes later.
      const bool ran_before = item.begin > item.sequence->cached_tokens;
      if (item.sequence->output_tokens() > 0 && one_left && ran_before) REQUIRE_FALSE(prefill_seen);
    }
    REQUIRE(work.size() <= static_cast<size_t>(limits_.sequences));
    REQUIRE(tokens <= limits_.tokens);
    REQUIRE(rows <= limits_.logit_rows);
    REQUIRE(table <= limits_.chunk_ids);
    REQUIRE(history <= limits_.history_tokens);
    // The oldest sequence is never the one that waits.
    if (!sequences_.empty()) {
      const bool oldest_runs = std::any_of(work.begin(), work.end(), [&](const auto& w) { return w.sequence == sequences_.front().get(); });
      REQUIRE(oldest_runs);
    }
  }

  // Prompts end a step at a chunk's border or at their end, output tokens come one by one.
  void check_pieces(const ScheduledWork& item) {
    const Sequence& sequence = *item.sequence;
    const int32_t end = item.begin + item.tokens;
    const int32_t prompt_end = sequence.max_output > 0 ? sequence.prompt_tokens : sequence.logprob_rows_end();
    if (sequence.params.prompt_logprobs && limits_.logit_rows < limits_.sequences - 1 + limits_.chunk_tokens) return;
    REQUIRE((item.begin >= sequence.prompt_tokens || item.begin % limits_.chunk_tokens == 0));
    if (item.begin >= sequence.prompt_tokens)
      REQUIRE(item.tokens == 1);
    else
      REQUIRE((end == prompt_end || (end < prompt_end && end % limits_.chunk_tokens == 0)));
  }

  SchedulerLimits limits_;
  Collector sink_;
  std::vector<std::unique_ptr<Sequence>> sequences_;  // in order of arrival
  Scheduler scheduler_;
  SequenceId next_ = 1;
  int steps_ = 0;

 public:
  KvContents kv;
};

}  // namespace

TEST_CASE("prefill is cut to the step and shares it with decoding") {
  Bench bench({4, 10, 4, 16, 100});
  Sequence& a = bench.add(3, 5);
  bench.step();
  CHECK(a.output_tokens() == 1);
  Sequence& b = bench.add(25, 5);
  const std::vector<ScheduledWork>& work = bench.step();
  REQUIRE(work.size() == 2);
  CHECK(a.output_tokens() == 2);
  CHECK(b.computed == 9);
  bench.step();
  CHECK(b.computed == 18);
  CHECK(b.output_tokens() == 0);
  bench.step();
  CHECK(b.computed == 25);
  CHECK(b.output_tokens() == 1);
}

TEST_CASE("when chunks run out the youngest gives way and the oldest goes on") {
  Bench bench({3, 16, 3, 4, 6});  // 24 tokens in all
  Sequence& a = bench.add(4, 20);
  Sequence& b = bench.add(4, 16);
  bench.step();
  CHECK(a.output_tokens() == 1);
  while (bench.scheduler().preemptions() == 0) bench.step();
  CHECK(b.preemptions == 1);
  CHECK(b.computed == 0);
  CHECK(b.chunks.empty());
  CHECK(a.preemptions == 0);
  while (!bench.sequences().empty()) bench.step();
  CHECK(bench.finished.front() == 1);
  CHECK(bench.scheduler().available_chunks() == 6);
}

TEST_CASE("sequences are admitted in order, even when a later one would fit") {
  Bench bench({4, 64, 4, 4, 8});
  bench.add(20, 2);
  Sequence& large = bench.add(24, 2);
  Sequence& small = bench.add(2, 2);
  bench.step();
  CHECK(large.chunks.empty());
  CHECK(small.chunks.empty());
  while (!bench.sequences().empty()) bench.step();
  CHECK(bench.finished == std::vector<SequenceId>{1, 2, 3});
}

TEST_CASE("a newcomer leaves each running sequence a chunk to grow into") {
  Bench bench({4, 64, 4, 4, 8});
  Sequence& first = bench.add(16, 12);
  Sequence& second = bench.add(13, 2);  // needs the four chunks that are left
  bench.step();
  CHECK(first.output_tokens() == 1);
  CHECK(second.chunks.empty());
  Sequence& third = bench.add(1, 2);
  while (second.chunks.empty()) bench.step();
  CHECK(bench.finished == std::vector<SequenceId>{1});
  CHECK(third.preemptions == 0);
}

TEST_CASE("prompt log-probabilities take the rows of logits that are left") {
  Bench bench({2, 64, 3, 16, 100});
  Sequence& a = bench.add(10, 2, true);
  const std::vector<ScheduledWork>& first = bench.step();
  REQUIRE(first.size() == 1);
  CHECK(first[0].logprob_end == 3);
  bench.step();
  bench.step();
  CHECK(a.next_logprob_row() == 9);
  CHECK(a.output_tokens() == 0);  // three rows for the prompt leave none to draw with
  bench.step();
  CHECK(a.output_tokens() == 1);
  // Nothing to draw: only the rows that report something are computed.
  Sequence& b = bench.add(4, 0, true);
  CHECK(b.goal() == 3);
  bench.step();
  CHECK(b.next_logprob_row() == 2);  // the other sequence's last draw takes a row
  bench.step();
  CHECK(bench.finished == std::vector<SequenceId>{1, 2});
}

TEST_CASE("a sequence takes over what an earlier one has computed, in the same step already") {
  SchedulerLimits limits{4, 64, 4, 8, 40};
  limits.share_prefixes = true;
  limits.cached_chunks = 40;
  Bench bench(limits);
  std::vector<int32_t> prompt(30);
  for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int32_t>(i);
  Sequence& a = bench.add(prompt, 20);
  Sequence& b = bench.add(prompt, 20);
  prompt[20] = 99;
  Sequence& c = bench.add(prompt, 20);
  const std::vector<ScheduledWork>& work = bench.step();
  REQUIRE(work.size() == 3);
  CHECK(work[0].tokens == 30);
  CHECK(work[1].tokens == 6);
  CHECK(work[2].tokens == 14);
  CHECK(b.cached_tokens == 24);
  CHECK(c.cached_tokens == 16);
  CHECK(std::equal(b.chunks.begin(), b.chunks.begin() + 3, a.chunks.begin()));
  CHECK(b.chunks[3] != a.chunks[3]);
  CHECK(std::equal(c.chunks.begin(), c.chunks.begin() + 2, a.chunks.begin()));
  CHECK(c.chunks[2] != a.chunks[2]);
  while (!bench.sequences().empty()) bench.step();
  CHECK(bench.scheduler().available_chunks() == 40);
  prompt.resize(8);
  Sequence& whole = bench.add(prompt, 2);  // one chunk exactly: its last token gives the logits, so it is computed
  bench.step();
  CHECK(whole.cached_tokens == 7);
}

TEST_CASE("followers of a long prompt compute nothing that its leader computes") {
  SchedulerLimits limits{8, 32, 8, 4, 200};
  limits.share_prefixes = true;
  limits.cached_chunks = 200;
  Bench bench(limits);
  std::vector<int32_t> prompt(150);
  for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int32_t>(i % 37);
  for (int i = 0; i < 8; ++i) bench.add(prompt, 3);
  int32_t computed = 0;
  while (!bench.sequences().empty()) {
    for (const ScheduledWork& item : bench.step()) computed += item.tokens;
  }
  // 150 tokens once, and two of the output by each of the eight. The step that computes the last 22 of them has room for five followers,
  // which compute the two tokens behind the last full chunk; those that come later copy the first of them.
  CHECK(computed == 150 + 8 * 2 + 5 * 2 + 2);
}

TEST_CASE("rows that report log-probabilities are computed, not taken over") {
  SchedulerLimits limits{2, 64, 64, 8, 40};
  limits.share_prefixes = true;
  limits.cached_chunks = 40;
  Bench bench(limits);
  bench.add(30, 2);
  while (!bench.sequences().empty()) bench.step();
  Sequence& asked = bench.add(30, 2, true);
  bench.step();
  CHECK(asked.cached_tokens == 0);
  CHECK(asked.next_logprob_row() == 29);
}

TEST_CASE("cached chunks make room for a sequence that needs it") {
  SchedulerLimits limits{2, 64, 2, 4, 8};
  limits.share_prefixes = true;
  limits.cached_chunks = 8;
  Bench bench(limits);
  bench.add(std::vector<int32_t>(16, 1), 4);
  while (!bench.sequences().empty()) bench.step();
  Sequence& other = bench.add(std::vector<int32_t>(28, 2), 4);
  bench.step();
  CHECK(other.output_tokens() == 1);
  while (!bench.sequences().empty()) bench.step();
  CHECK(bench.scheduler().preemptions() == 0);
}

TEST_CASE("random traffic: everything finishes, no chunk is lost, every row finds its own keys and values") {
  int64_t copied = 0;
  for (unsigned seed = 1; seed <= 24; ++seed) {
    Traffic traffic(seed);
    const SchedulerLimits limits = traffic.limits();
    CAPTURE(seed, limits.sequences, limits.tokens, limits.logit_rows, limits.chunk_tokens, limits.kv_chunks, limits.share_prefixes);
    Bench bench(limits);
    int added = 0, cancelled = 0;
    while (added < 150 || !bench.sequences().empty()) {
      if (added < 150 && traffic.once_in(4)) {
        Traffic::Arrival arrival = traffic.arrival(1, 3);
        bench.add(std::move(arrival.prompt), arrival.max_output, arrival.prompt_logprobs, arrival.repetition_penalty);
        ++added;
      }
      if (!bench.sequences().empty() && traffic.once_in(41)) {
        bench.remove(*bench.sequences()[static_cast<size_t>(traffic.any(0, static_cast<int32_t>(bench.sequences().size()) - 1))]);
        ++cancelled;
      }
      bench.step();
    }
    CHECK(bench.finished.size() + static_cast<size_t>(cancelled) == 150);
    CHECK(bench.scheduler().available_chunks() == limits.kv_chunks);
    copied += bench.kv.copied;
  }
  CHECK(copied > 200);
}
