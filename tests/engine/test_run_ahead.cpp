// Steps handed over while the one before is still under way: their tokens are not known yet, some sequences turn out to have ended, others
// are admitted meanwhile, prompts are prefilled beside.
#include <algorithm>
#include <deque>
#include <random>

#include "catch.h"
#include "deferred_backend.h"
#include "engine_fixture.h"
#include "traffic.h"

using namespace bolide;
using namespace bolide::test;

namespace {

// Prompts of 1 to 60 tokens, many of them beginning alike; greedy and drawn; some with penalties, some with log-probabilities of the
// prompt.
std::vector<Request> requests_of_all_kinds(int count, unsigned seed) {
  std::mt19937 random(seed);
  const auto token = [&] { return static_cast<int32_t>(random() % 300); };
  std::vector<int32_t> beginning(40);
  for (int32_t& id : beginning) id = token();
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    Request request;
    if (random() % 2 == 0) request.prompt = beginning;
    for (auto more = 1 + random() % 20; more > 0; --more) request.prompt.push_back(token());
    request.params = greedy_params(1 + static_cast<int32_t>(random() % 24));
    request.params.temperature = i % 2 == 0 ? 0.0f : 0.9f;
    request.params.seed = static_cast<uint64_t>(i);
    request.params.logprobs = 2;
    if (i % 11 == 3) request.params.repetition_penalty = 1.2f;
    request.params.prompt_logprobs = i % 5 == 0;
    requests.push_back(request);
  }
  return requests;
}

// Requests arrive over time. Returns their outputs in the order of `requests`.
std::vector<Output> run_arriving(Engine& engine, const std::vector<Request>& requests, unsigned seed) {
  std::mt19937 random(seed);
  Collector sink;
  std::vector<SequenceId> ids;
  for (bool more = true; more || ids.size() < requests.size(); more = engine.step()) {
    while (ids.size() < requests.size() && random() % 3 != 0) {
      const Request& request = requests[ids.size()];
      ids.push_back(engine.add(request.prompt, request.params, sink));
    }
  }
  std::vector<Output> outputs;
  for (const SequenceId id : ids) outputs.push_back(sink.outputs.at(id));
  return outputs;
}

EngineOptions piecewise_options() {
  EngineOptions options = small_options();
  options.ctx_size = 96;
  options.chunk_tokens = 8;
  options.max_num_batched_tokens = 40;
  options.deterministic = true;
  return options;
}

void check_equal(const Output& got, const Output& expected) {
  CHECK(got.tokens == expected.tokens);
  CHECK(got.logprobs == expected.logprobs);  // bit by bit
  CHECK(got.text == expected.text);
  CHECK(got.reason == expected.reason);
  CHECK(got.stop_token == expected.stop_token);
  REQUIRE(got.prompt_logprobs.size() == expected.prompt_logprobs.size());
  for (size_t i = 1; i < got.prompt_logprobs.size(); ++i) CHECK(got.prompt_logprobs[i] == expected.prompt_logprobs[i]);
}

// Sequences through the scheduler alone, with up to two steps under way.
class Pipeline {
 public:
  explicit Pipeline(const SchedulerLimits& limits) : scheduler_(limits), kv(limits) {}

  void add(std::vector<int32_t> prompt, int32_t max_output, bool prompt_logprobs, float repetition_penalty) {
    SamplingParams params;
    params.prompt_logprobs = prompt_logprobs;
    params.repetition_penalty = repetition_penalty;
    sequences_.push_back(std::make_unique<Sequence>(next_++, std::move(prompt), params, sink_, nullptr, max_output, 0));
    scheduler_.add(*sequences_.back());
  }

  void drop(size_t index) {
    scheduler_.remove(*sequences_[index]);
    sequences_.erase(sequences_.begin() + static_cast<std::ptrdiff_t>(index));
  }

  // One turn of an engine: a step is under way, the next one is planned, the first one's tokens come in. `ends`: whether a token ends its
  // sequence.
  template <typename Ends>
  void turn(Ends&& ends) {
    if (steps_.empty()) launch(scheduler_.plan());
    if (steps_.empty()) return;
    launch(scheduler_.plan_ahead());
    ahead += steps_.size() > 1 ? 1 : 0;
    scheduler_.check();
    const std::vector<Entry> landing = steps_.front();
    steps_.pop_front();
    for (const Entry& entry : landing) {
      const auto at = std::find_if(sequences_.begin(), sequences_.end(), [&](const auto& s) { return s->id == entry.id; });
      if (at == sequences_.end()) continue;  // it has ended since
      land(**at, entry.work, ends());
      scheduler_.check();
    }
  }

  size_t size() const { return sequences_.size(); }
  bool under_way() const { return !steps_.empty(); }
  Scheduler& scheduler() { return scheduler_; }
  int64_t ahead = 0, finished = 0;

 private:
  struct Entry {
    SequenceId id;
    ScheduledWork work;
  };

  void launch(const std::vector<ScheduledWork>& work) {
    if (work.empty()) return;
    kv.run(work, scheduler_.copies());
    std::vector<Entry>& step = steps_.emplace_back();
    for (const ScheduledWork& item : work) {
      const auto known = static_cast<int32_t>(item.sequence->tokens.size());
      // A row whose token is not known must have been drawn by the step before.
      if (item.begin + item.tokens > known) {
        REQUIRE(item.tokens == 1);
        REQUIRE(steps_.size() == 2);
        const std::vector<Entry>& before = steps_.front();
        REQUIRE(std::any_of(before.begin(), before.end(), [&](const Entry& e) { return e.id == item.sequence->id && e.work.draws; }));
        REQUIRE_FALSE(item.sequence->penalised());
      }
      REQUIRE(item.sequence->output_tokens() + item.sequence->under_way <= item.sequence->max_output);
      step.push_back({item.sequence->id, item});
    }
  }

  void land(Sequence& sequence, const ScheduledWork& work, bool ends) {
    for (int32_t row = work.logprob_begin; row < work.logprob_end; ++row) sequence.set_prompt_logprob(row, 0.0f);
    if (work.draws && !ends) {
      sequence.append(Traffic::drawn(sequence.id));
      scheduler_.publish(sequence);
    }
    const bool reported = sequence.max_output == 0 && sequence.logprobs_known();
    if (!(work.draws && ends) && !reported && (sequence.max_output == 0 || sequence.output_tokens() < sequence.max_output)) return;
    ++finished;
    const auto at = std::find_if(sequences_.begin(), sequences_.end(), [&](const auto& s) { return s.get() == &sequence; });
    drop(static_cast<size_t>(at - sequences_.begin()));
  }

  Collector sink_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  Scheduler scheduler_;
  std::deque<std::vector<Entry>> steps_;
  SequenceId next_ = 1;

 public:
  KvContents kv;
};

}  // namespace

TEST_CASE("steps ahead of random traffic: everything finishes, no chunk is lost, every row finds its own keys and values") {
  int64_t ahead = 0, preemptions = 0, copied = 0;
  for (unsigned seed = 1; seed <= 24; ++seed) {
    Traffic traffic(seed);
    const SchedulerLimits limits = traffic.limits();
    CAPTURE(seed);
    Pipeline pipeline(limits);
    int added = 0, dropped = 0, turns = 0;
    while (added < 150 || pipeline.size() > 0 || pipeline.under_way()) {
      REQUIRE(++turns < 30000);
      if (added < 150 && traffic.once_in(4)) {
        Traffic::Arrival arrival = traffic.arrival(seed % 4 == 1 ? 0 : 1, 10);
        pipeline.add(std::move(arrival.prompt), arrival.max_output, arrival.prompt_logprobs, arrival.repetition_penalty);
        ++added;
      }
      if (pipeline.size() > 0 && traffic.once_in(41)) {
        pipeline.drop(static_cast<size_t>(traffic.any(0, static_cast<int32_t>(pipeline.size()) - 1)));
        ++dropped;
      }
      pipeline.turn([&] { return traffic.once_in(26); });
    }
    CHECK(pipeline.finished + dropped == 150);
    CHECK(pipeline.scheduler().available_chunks() == limits.kv_chunks);
    ahead += pipeline.ahead;
    preemptions += pipeline.scheduler().preemptions();
    copied += pipeline.kv.copied;
  }
  CHECK(ahead > 5000);
  CHECK(preemptions > 100);
  CHECK(copied > 200);
}

TEST_CASE("on a device that works on its own, sequences yield bit by bit what they yield alone") {
  std::vector<Request> requests = requests_of_all_kinds(60, 3);
  EngineOptions options = piecewise_options();
  options.prefix_cache = false;
  const auto alone = [&] {
    const std::unique_ptr<Engine> engine = text_engine(options);
    std::vector<Output> outputs;
    for (const Request& request : requests) outputs.push_back(run_one(*engine, request.prompt, request.params));
    return outputs;
  };
  // Ends that nobody knows beforehand.
  const std::vector<Output> whole = alone();
  for (size_t i = 0; i < requests.size(); i += 3) requests[i].params.stop_token_ids = {whole[i].tokens.at(whole[i].tokens.size() / 2)};
  const std::vector<Output> expected = alone();
  for (const int64_t kv_tokens : {0, 160}) {
    for (const int32_t sequences : {1, 3, 20}) {
      options.prefix_cache = true;
      options.max_num_seqs = sequences;
      options.kv_cache_bytes = text_engine()->config().kv_bytes_per_token(DType::f32) * kv_tokens;
      DeferredBackend* backend = nullptr;
      const std::unique_ptr<Engine> engine = deferred_engine(options, backend);
      CAPTURE(kv_tokens, sequences);
      const std::vector<Output> got = run_arriving(*engine, requests, 5);
      int preemptions = 0, cached = 0;
      for (size_t i = 0; i < requests.size(); ++i) {
        CAPTURE(i);
        check_equal(got[i], expected[i]);
        preemptions += got[i].stats.preemptions;
        cached += got[i].stats.cached_tokens;
      }
      CHECK(backend->most_queued == 2);
      CHECK(cached > 0);
      if (kv_tokens > 0 && sequences == 20) CHECK(preemptions > 0);
      CHECK(engine->counters().steps_ahead > 0);
    }
  }
}

TEST_CASE("prompts are prefilled and sequences admitted in steps that are handed over ahead") {
  EngineOptions options = small_options();
  options.max_num_seqs = 4;
  options.max_num_batched_tokens = 16;
  DeferredBackend* backend = nullptr;
  const std::unique_ptr<Engine> engine = deferred_engine(options, backend);
  Collector sink;
  for (const int length : {5, 40, 30, 1, 25, 60})
    engine->add(std::vector<int32_t>(static_cast<size_t>(length), length), greedy_params(20), sink);
  run_all(*engine);
  CHECK(sink.finished.size() == 6);
  // Nothing ends unforeseen and nothing is pre-empted, so only the first step has none before it.
  CHECK(engine->counters().steps_ahead == engine->counters().steps - 1);
}

TEST_CASE("chunks of output are found by the sequence's followers although its steps run ahead") {
  EngineOptions options = small_options();
  options.chunk_tokens = 4;
  DeferredBackend* backend = nullptr;
  const std::unique_ptr<Engine> engine = deferred_engine(options, backend);
  const std::vector<int32_t> prompt = {5, 77, 130, 9};
  const Output first = run_one(*engine, prompt, greedy_params(21));
  std::vector<int32_t> longer = prompt;
  longer.insert(longer.end(), first.tokens.begin(), first.tokens.end());
  // All chunks but the one that the last token, which was never computed, lies in.
  CHECK(run_one(*engine, longer, greedy_params(3)).stats.cached_tokens == 24);
}
