// What a sequence yields depends on its prompt and parameters alone, not on what runs beside it or how it is scheduled.
#include <cmath>
#include <random>

#include "catch.h"
#include "engine_fixture.h"

using namespace bolide;
using namespace bolide::test;

namespace {

// Greedy and sampled requests of many lengths, with and without penalties and log-probabilities.
std::vector<Request> mixed_requests(int count) {
  std::mt19937 random(11);
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    Request request;
    const auto length = 1 + random() % 50;
    for (size_t t = 0; t < length; ++t) request.prompt.push_back(static_cast<int32_t>(random() % 300));
    request.params = greedy_params(4 + static_cast<int32_t>(random() % 30));
    if (i % 2 == 1) {
      request.params.temperature = 0.9f;
      request.params.top_k = i % 4 == 1 ? 40 : 0;
      request.params.top_p = 0.95f;
      request.params.seed = 100 + static_cast<uint64_t>(i);
    }
    if (i % 3 == 0) {
      request.params.repetition_penalty = 1.2f;
      request.params.repeat_last_n = i % 2 == 0 ? 12 : -1;
      request.params.presence_penalty = 0.3f;
      request.params.frequency_penalty = 0.1f;
    }
    request.params.logprobs = 3;
    request.params.prompt_logprobs = i % 4 == 0;
    requests.push_back(request);
  }
  return requests;
}

void check_same(const Output& got, const Output& expected) {
  CHECK(got.tokens == expected.tokens);
  CHECK(got.text == expected.text);
  CHECK(got.reason == expected.reason);
  REQUIRE(got.logprobs.size() == expected.logprobs.size());
  for (size_t i = 0; i < got.logprobs.size(); ++i) CHECK(std::abs(got.logprobs[i] - expected.logprobs[i]) < 1e-3f);
  REQUIRE(got.prompt_logprobs.size() == expected.prompt_logprobs.size());
  for (size_t i = 1; i < got.prompt_logprobs.size(); ++i) CHECK(std::abs(got.prompt_logprobs[i] - expected.prompt_logprobs[i]) < 1e-3f);
}

std::vector<Output> run_alone(const std::vector<Request>& requests) {
  const std::unique_ptr<Engine> engine = text_engine();
  std::vector<Output> outputs;
  for (const Request& request : requests) outputs.push_back(run_one(*engine, request.prompt, request.params));
  return outputs;
}

}  // namespace

TEST_CASE("sequences in a batch yield what they yield alone") {
  const std::vector<Request> requests = mixed_requests(24);
  const std::vector<Output> alone = run_alone(requests);
  for (const int32_t step_tokens : {7, 40, 256}) {
    EngineOptions options = small_options();
    options.max_num_seqs = 7;
    options.max_num_batched_tokens = step_tokens;
    const std::unique_ptr<Engine> engine = text_engine(options);
    const std::vector<Output> together = run_together(*engine, requests);
    for (size_t i = 0; i < requests.size(); ++i) {
      CAPTURE(step_tokens, i);
      check_same(together[i], alone[i]);
    }
  }
}

TEST_CASE("pre-empted sequences yield what they yield undisturbed") {
  const std::vector<Request> requests = mixed_requests(24);
  const std::vector<Output> alone = run_alone(requests);
  EngineOptions options = small_options();
  options.ctx_size = 96;
  options.chunk_tokens = 4;
  options.max_num_seqs = 8;
  options.max_num_batched_tokens = 32;
  // Room for 112 tokens: hardly more than one sequence of the largest size.
  options.kv_cache_bytes = text_engine()->config().kv_bytes_per_token(DType::f32) * 112;
  const std::unique_ptr<Engine> engine = text_engine(options);
  const std::vector<Output> disturbed = run_together(*engine, requests);
  int preemptions = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    CAPTURE(i);
    check_same(disturbed[i], alone[i]);
    CHECK(disturbed[i].prompt_logprob_calls == (requests[i].params.prompt_logprobs ? 1 : 0));
    preemptions += disturbed[i].stats.preemptions;
  }
  CHECK(preemptions > 0);
}

TEST_CASE("random arrivals and cancellations all end, and the engine is as good as new") {
  EngineOptions options = small_options();
  options.ctx_size = 96;
  options.chunk_tokens = 8;
  options.max_num_seqs = 5;
  options.kv_cache_bytes = text_engine()->config().kv_bytes_per_token(DType::f32) * 160;
  const std::unique_ptr<Engine> engine = text_engine(options);
  const std::vector<Request> requests = mixed_requests(60);
  const Output before = run_one(*engine, requests[1].prompt, requests[1].params);
  std::mt19937 random(5);
  Collector sink;
  std::vector<SequenceId> ids;
  int cancelled = 0;
  bool more = true;
  while (ids.size() < requests.size() || more) {
    if (ids.size() < requests.size() && random() % 2 == 0) {
      const Request& request = requests[ids.size()];
      ids.push_back(engine->add(request.prompt, request.params, sink));
    }
    if (!ids.empty() && random() % 9 == 0) engine->cancel(ids[random() % ids.size()]);  // some have ended already
    more = engine->step();
  }
  CHECK(sink.finished.size() == requests.size());
  for (const SequenceId id : ids) {
    const Output& output = sink.outputs.at(id);
    CHECK(output.reason != FinishReason::none);
    if (output.reason == FinishReason::cancelled) ++cancelled;
  }
  CHECK(cancelled > 0);
  CHECK(cancelled < 60);
  CHECK_FALSE(engine->step());
  check_same(run_one(*engine, requests[1].prompt, requests[1].params), before);
}

TEST_CASE("the seed and the sequence key decide the draw, nothing else does") {
  const std::unique_ptr<Engine> engine = text_engine();
  const std::vector<int32_t> prompt = {5, 77, 130, 9};
  SamplingParams params = greedy_params(24);
  params.temperature = 1.0f;
  params.seed = 42;
  const Output first = run_one(*engine, prompt, params);
  CHECK(run_one(*engine, prompt, params).tokens == first.tokens);
  params.sequence_key = 1;
  CHECK(run_one(*engine, prompt, params).tokens != first.tokens);
  params.sequence_key = 0;
  params.seed = 43;
  CHECK(run_one(*engine, prompt, params).tokens != first.tokens);
}

TEST_CASE("the engine reproduces the reference, whatever the rows for log-probabilities") {
  const Reference reference = load_reference(reference_folder("tiny-qwen3-text-bf16"));
  for (const int32_t rows : {0, 5, 64}) {
    EngineOptions options = small_options();
    options.max_logprob_rows = rows;
    const std::unique_ptr<Engine> engine = text_engine(options);
    SamplingParams params = greedy_params(40);
    params.prompt_logprobs = true;
    params.logprobs = 5;
    params.logit_bias.clear();
    const Output output = run_one(*engine, reference.prompt, params);
    CAPTURE(rows);
    REQUIRE(output.prompt_logprobs.size() == reference.prompt.size());
    CHECK(std::isnan(output.prompt_logprobs[0]));
    for (size_t i = 1; i < reference.prompt.size(); ++i) {
      CHECK(std::abs(output.prompt_logprobs[i] - reference.prompt_logprobs[i - 1]) < 2e-3);
    }
    REQUIRE(output.tokens.size() == 40);
    for (size_t i = 0; i < 40 && reference.greedy[i].margin > 1e-3; ++i) {
      // Ids beyond the tokenizer's are never drawn; the reference knows no such rule.
      if (reference.greedy[i].id >= engine->tokenizer()->vocab_size()) break;
      REQUIRE(output.tokens[i] == reference.greedy[i].id);
      CHECK(std::abs(output.logprobs[i] - reference.greedy[i].logprob) < 2e-3);
    }
  }
}

TEST_CASE("steps launched ahead of their tokens yield the same") {
  std::vector<Request> requests = mixed_requests(24);
  for (size_t i = 0; i < requests.size(); i += 2) {  // no history: these may run ahead
    requests[i].params.repetition_penalty = 1.0f;
    requests[i].params.presence_penalty = requests[i].params.frequency_penalty = 0.0f;
  }
  const std::vector<Output> alone = run_alone(requests);
  // Ends that are not known beforehand: at a token, at a stop string.
  requests[2].params.stop_token_ids = {alone[2].tokens.back()};
  requests[4].params.stop_token_ids = {alone[4].tokens.at(1)};
  std::vector<Output> expected = run_alone(requests);
  for (const int32_t sequences : {1, 3, 24}) {
    for (const int64_t kv_tokens : {0, 160}) {
      EngineOptions options = small_options();
      options.max_num_seqs = sequences;
      options.run_ahead = true;
      options.max_num_batched_tokens = 64;
      if (kv_tokens > 0) {
        options.ctx_size = 96;
        options.kv_cache_bytes = text_engine()->config().kv_bytes_per_token(DType::f32) * kv_tokens;
      }
      const std::unique_ptr<Engine> engine = text_engine(options);
      const std::vector<Output> together = run_together(*engine, requests);
      for (size_t i = 0; i < requests.size(); ++i) check_same(together[i], expected[i]);
      // The engine is empty and takes further requests.
      CHECK(run_one(*engine, requests[0].prompt, requests[0].params).tokens == expected[0].tokens);
    }
  }
}

TEST_CASE("a sequence cancelled while its next step is under way ends alone") {
  EngineOptions options = small_options();
  options.max_num_seqs = 2;
  options.run_ahead = true;
  const std::unique_ptr<Engine> engine = text_engine(options);
  const Output expected = run_one(*engine, {1, 2, 3}, greedy_params(12));
  Collector sink;
  const SequenceId kept = engine->add({1, 2, 3}, greedy_params(12), sink);
  const SequenceId dropped = engine->add({4, 5, 6, 7}, greedy_params(30), sink);
  sink.on_each_token = [&](const TokenEvent& event) {
    if (event.sequence == dropped && sink.outputs.at(dropped).tokens.size() == 5) engine->cancel(dropped);
  };
  run_all(*engine);
  CHECK(sink.outputs.at(kept).tokens == expected.tokens);
  CHECK(sink.outputs.at(dropped).reason == FinishReason::cancelled);
  CHECK(sink.outputs.at(dropped).tokens.size() == 5);
}
