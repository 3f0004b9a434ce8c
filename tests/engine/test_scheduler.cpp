// The scheduler alone: sequences are "computed" by counting.
#include <algorithm>
#include <memory>
#include <random>

#include "catch.h"
#include "engine/scheduler.h"
#include "engine_fixture.h"

using namespace bolide;
using namespace bolide::test;

namespace {

class Bench {
 public:
  explicit Bench(const SchedulerLimits& limits) : limits_(limits), scheduler_(limits) {}

  Sequence& add(int32_t prompt_tokens, int32_t max_output, bool prompt_logprobs = false) {
    SamplingParams params;
    params.prompt_logprobs = prompt_logprobs;
    const SequenceId id = next_++;
    sequences_.push_back(
        std::make_unique<Sequence>(id, std::vector<int32_t>(static_cast<size_t>(prompt_tokens), 1), params, sink_, nullptr, max_output, 0));
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
    std::vector<Sequence*> done;
    for (const ScheduledWork& item : work) {
      Sequence& sequence = *item.sequence;
      sequence.computed += item.tokens;
      for (int32_t row = item.logprob_begin; row < item.logprob_end; ++row) sequence.set_prompt_logprob(row, 0.0f);
      if (item.draws) sequence.append(2);
      if (sequence.goal() == 0 || (sequence.max_output > 0 && sequence.output_tokens() == sequence.max_output)) done.push_back(&sequence);
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
    int32_t tokens = 0, rows = 0;
    bool prefill_seen = false;
    for (const ScheduledWork& item : work) {
      REQUIRE(item.tokens > 0);
      REQUIRE(item.tokens <= item.sequence->pending());
      REQUIRE(item.sequence->chunks.size() * static_cast<size_t>(limits_.chunk_tokens) >=
              static_cast<size_t>(item.sequence->computed + item.tokens));
      REQUIRE(item.draws == (item.sequence->max_output > 0 && item.tokens == item.sequence->pending()));
      REQUIRE(item.logprob_begin <= item.logprob_end);
      REQUIRE(item.logprob_end - item.logprob_begin <= item.tokens);
      tokens += item.tokens;
      rows += item.logprob_end - item.logprob_begin + (item.draws ? 1 : 0);
      if (item.sequence->pending() > 1) prefill_seen = true;
      if (item.sequence->output_tokens() > 0 && item.sequence->pending() == 1) REQUIRE_FALSE(prefill_seen);  // decoding first
    }
    REQUIRE(work.size() <= static_cast<size_t>(limits_.sequences));
    REQUIRE(tokens <= limits_.tokens);
    REQUIRE(rows <= limits_.logit_rows);
    // The oldest sequence is never the one that waits.
    if (!sequences_.empty()) {
      const bool oldest_runs = std::any_of(work.begin(), work.end(), [&](const auto& w) { return w.sequence == sequences_.front().get(); });
      REQUIRE(oldest_runs);
    }
  }

  SchedulerLimits limits_;
  Collector sink_;
  std::vector<std::unique_ptr<Sequence>> sequences_;  // in order of arrival
  Scheduler scheduler_;
  SequenceId next_ = 1;
  int steps_ = 0;
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
  CHECK(bench.scheduler().free_chunks() == 6);
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

TEST_CASE("random traffic: everything finishes and no chunk is lost") {
  for (const unsigned seed : {1u, 2u, 3u, 4u, 5u, 6u}) {
    std::mt19937 random(seed);
    const auto any = [&](int32_t low, int32_t high) { return std::uniform_int_distribution<int32_t>(low, high)(random); };
    SchedulerLimits limits;
    limits.sequences = any(1, 6);
    limits.tokens = limits.sequences + any(0, 20);
    limits.logit_rows = limits.sequences + any(0, 4);
    limits.chunk_tokens = any(1, 9);
    const int32_t context = 60;
    limits.kv_chunks = (context + limits.chunk_tokens - 1) / limits.chunk_tokens + any(0, 12);
    CAPTURE(seed, limits.sequences, limits.tokens, limits.logit_rows, limits.chunk_tokens, limits.kv_chunks);
    Bench bench(limits);
    int added = 0, cancelled = 0;
    while (added < 150 || !bench.sequences().empty()) {
      if (added < 150 && any(0, 3) == 0) {
        const int32_t prompt = any(1, 40);
        bench.add(prompt, any(1, context - prompt), any(0, 4) == 0);
        ++added;
      }
      if (!bench.sequences().empty() && any(0, 40) == 0) {
        bench.remove(*bench.sequences()[static_cast<size_t>(any(0, static_cast<int32_t>(bench.sequences().size()) - 1))]);
        ++cancelled;
      }
      bench.step();
    }
    CHECK(bench.finished.size() + static_cast<size_t>(cancelled) == 150);
    CHECK(bench.scheduler().free_chunks() == limits.kv_chunks);
  }
}
