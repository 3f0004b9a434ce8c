// Decode kernels that go on from step to step by themselves, through the engine: the tokens are those of a launch a step, whatever comes in
// between.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>

#include "catch.h"
#include "engine/deferred_backend.h"
#include "engine/engine_load.h"
#include "exec/memory_plan.h"
#include "gpu.h"

using namespace bolide;
using namespace bolide::cuda_test;
using namespace bolide::test;

namespace {

// Of a shape that the kernel is compiled for, with a small vocabulary.
struct SmallShape {
  int hidden = 1024, mlp = 3072, heads = 16, kv_heads = 8, head_dim = 128, layers = 6;
};
ModelSource small_model(const SmallShape& shape) {
  const std::filesystem::path path = scratch_folder() / "going-on.json";
  std::ofstream(path) << fmt::format(
      R"({{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": false, "eos_token_id": 7,
    "head_dim": {}, "hidden_act": "silu", "hidden_size": {}, "intermediate_size": {}, "max_position_embeddings": 8192,
    "num_attention_heads": {}, "num_hidden_layers": {}, "num_key_value_heads": {}, "rms_norm_eps": 1e-06, "rope_theta": 1000000,
    "tie_word_embeddings": true, "torch_dtype": "bfloat16", "vocab_size": 16384}})",
      shape.head_dim, shape.hidden, shape.mlp, shape.heads, shape.layers, shape.kv_heads);
  ModelSource source;
  source.random_shape = path;
  return source;
}
// steps: at most so many of a launch. Null where there is no such kernel.
std::unique_ptr<Engine> engine_of(const char* name, int steps, const SmallShape& shape = {}) {
  setenv("BOLIDE_DECODE_STEPS", std::to_string(steps).c_str(), 1);
  auto backend = gpu(name);
  unsetenv("BOLIDE_DECODE_STEPS");
  if (!backend) return nullptr;
  EngineOptions options;
  options.max_num_seqs = 8;
  options.ctx_size = 4096;
  options.prefix_cache = false;  // what a sequence finds there was computed in other pieces
  auto engine = make_engine(load_engine(small_model(shape), options, {std::move(backend), "a test"}));
  const std::optional<DecodeForm> form = engine->backend().decode_form(
      {model_dims(engine->config(), DType::bf16), DType::bf16, DType::bf16, options.chunk_tokens, 64, options.ctx_size});
  if (form && form->one_kernel_up_to > 0) return engine;
  REQUIRE(form);
  CAPTURE(form->reason);
  REQUIRE(form->reason.find("needs") != std::string::npos);
  std::printf("skipped: %s (%s)\n", name, form->reason.c_str());
  return nullptr;
}
SamplingParams params_of(float temperature, int32_t tokens, uint64_t seed = 1) {
  SamplingParams params = greedy_params(tokens);
  params.temperature = temperature;
  params.seed = seed;
  return params;
}
DecodeCounters since(Engine& engine, const DecodeCounters& before) {
  const DecodeCounters now = cuda_decode_counters(engine.backend());
  return {now.steps - before.steps, now.launches - before.launches, now.left_out - before.left_out};
}
const std::vector<int32_t> kPrompt{3, 14, 15, 92, 65, 35};

}  // namespace

TEST_CASE("going on: the tokens are those of a launch a step") {
  const char* name = "going on: the tokens are those of a launch a step";
  const auto engine = engine_of(name, 1024);
  if (!engine) return;
  const auto single = engine_of(name, 1), seven = engine_of(name, 7);
  for (const float temperature : {0.0f, 1.0f}) {
    CAPTURE(temperature);
    const DecodeCounters before = cuda_decode_counters(engine->backend()), before_seven = cuda_decode_counters(seven->backend());
    const Output expected = run_one(*single, kPrompt, params_of(temperature, 2500)),
                 got = run_one(*engine, kPrompt, params_of(temperature, 2500)),
                 by_seven = run_one(*seven, kPrompt, params_of(temperature, 2500));
    REQUIRE(expected.tokens.size() == 2500);
    CHECK(got.tokens == expected.tokens);
    CHECK(by_seven.tokens == expected.tokens);
    const DecodeCounters counted = since(*engine, before), counted_seven = since(*seven, before_seven);
    CHECK(counted.steps == 2499);
    CHECK(counted_seven.steps == 2499);
    std::printf("going on: %lld steps in %lld launches, at most 7 a launch in %lld\n", static_cast<long long>(counted.steps),
                static_cast<long long>(counted.launches), static_cast<long long>(counted_seven.launches));
    CHECK(counted.launches < 1250);  // 3, unless the host is often late
    CHECK(counted_seven.launches >= 357);
  }
  CHECK(cuda_decode_counters(single->backend()).steps == 0);
}

// Of other lengths: they end one by one, and rows go up in number with the next ones.
TEST_CASE("going on: several sequences") {
  const char* name = "going on: several sequences";
  const SmallShape shape =
      GENERATE(SmallShape{}, SmallShape{896, 4864, 14, 2, 64, 3}, SmallShape{576, 1536, 9, 3, 64, 4}, SmallShape{960, 2560, 15, 5, 64, 3});
  const auto engine = engine_of(name, 1024, shape);
  if (!engine) return;
  const auto single = engine_of(name, 1, shape), seven = engine_of(name, 7, shape);
  CAPTURE(shape.hidden);
  for (const size_t count : {2, 3, 4, 5, 8, 4, 2}) {
    for (const float temperature : {0.0f, 1.0f}) {
      CAPTURE(count, temperature);
      std::vector<Request> requests;
      for (size_t i = 0; i < count; ++i) {
        std::vector<int32_t> prompt(5 + 71 * i, 3);
        for (size_t j = 0; j < prompt.size(); ++j) prompt[j] = static_cast<int32_t>((37 * j + i) % 16000);
        requests.push_back({prompt, params_of(temperature, static_cast<int32_t>(300 + 20 * i), 3 + i)});
      }
      const auto tokens_of = [&](Engine& by) {
        std::vector<std::vector<int32_t>> tokens;
        for (const Output& output : run_together(by, requests)) tokens.push_back(output.tokens);
        return tokens;
      };
      const auto expected = tokens_of(*single);
      const DecodeCounters before = cuda_decode_counters(engine->backend());
      CHECK(tokens_of(*engine) == expected);
      const DecodeCounters counted = since(*engine, before);
      CHECK(counted.steps >= 290);
      CHECK(counted.launches < counted.steps / 2);
      CHECK(tokens_of(*seven) == expected);
      // Ids that end one of them: the others go on.
      requests.back().params.stop_token_ids = {expected.back()[100]};
      requests.front().params.stop_token_ids = {expected.front()[200]};
      CHECK(tokens_of(*engine) == tokens_of(*single));
    }
  }
}

// Key/value heads that share blocks out otherwise, and layers of fewer stages than the ring has.
TEST_CASE("going on: shapes that do not fill stages") {
  const char* name = "going on: shapes that do not fill stages";
  const SmallShape shape = GENERATE(SmallShape{896, 4864, 14, 2, 64, 3}, SmallShape{576, 1536, 9, 3, 64, 2},
                                    SmallShape{576, 1536, 9, 3, 64, 4}, SmallShape{960, 2560, 15, 5, 64, 3});
  const auto engine = engine_of(name, 1024, shape);
  if (!engine) return;
  CAPTURE(shape.hidden, shape.mlp);
  const auto single = engine_of(name, 1, shape), seven = engine_of(name, 7, shape);
  for (const float temperature : {0.0f, 1.0f}) {
    CAPTURE(temperature);
    const DecodeCounters before = cuda_decode_counters(engine->backend());
    const Output expected = run_one(*single, kPrompt, params_of(temperature, 700));
    REQUIRE(expected.tokens.size() == 700);
    CHECK(run_one(*engine, kPrompt, params_of(temperature, 700)).tokens == expected.tokens);
    const DecodeCounters counted = since(*engine, before);
    CHECK(counted.steps == 699);
    CHECK(counted.launches < 350);
    CHECK(run_one(*seven, kPrompt, params_of(temperature, 700)).tokens == expected.tokens);
    SamplingParams stopped = params_of(temperature, 700);
    stopped.stop_token_ids = {expected.tokens[300]};
    const auto end = std::find(expected.tokens.begin(), expected.tokens.end(), expected.tokens[300]);
    CHECK(run_one(*engine, kPrompt, stopped).tokens == std::vector<int32_t>(expected.tokens.begin(), end));
  }
}

// A step's stream has to be longer than the ring, and vectors no wider than a stage.
TEST_CASE("going on: other models have a launch a step") {
  const char* name = "going on: other models have a launch a step";
  const SmallShape shape = GENERATE(SmallShape{576, 1536, 9, 3, 64, 1}, SmallShape{2048, 6144, 16, 8, 128, 2});
  const auto engine = engine_of(name, 1024, shape);
  if (!engine) return;
  CHECK(run_one(*engine, kPrompt, params_of(1.0f, 100)).tokens ==
        run_one(*engine_of(name, 1, shape), kPrompt, params_of(1.0f, 100)).tokens);
  CHECK(cuda_decode_counters(engine->backend()).steps == 0);
}

// More steps than an epoch's 16 bits tell apart, over many launches.
TEST_CASE("going on: many sequences, one after another") {
  const char* name = "going on: many sequences, one after another";
  const auto engine = engine_of(name, 1024);
  if (!engine) return;
  const Output expected = run_one(*engine_of(name, 1), kPrompt, params_of(1.0f, 400));
  for (int i = 0; i < 32; ++i) {
    CAPTURE(i);
    REQUIRE(run_one(*engine, kPrompt, params_of(1.0f, 400)).tokens == expected.tokens);
  }
}

TEST_CASE("going on: a stop id ends the launch, and the next sequence begins") {
  const char* name = "going on: a stop id ends the launch, and the next sequence begins";
  const auto engine = engine_of(name, 1024);
  if (!engine) return;
  const Output whole = run_one(*engine, kPrompt, params_of(1.0f, 300));
  REQUIRE(whole.tokens.size() == 300);
  const DecodeCounters before = cuda_decode_counters(engine->backend());
  int64_t steps = 0;
  for (const size_t at : {0, 1, 2, 40, 41, 170, 299}) {
    SamplingParams params = params_of(1.0f, 300);
    params.stop_token_ids = {9999, whole.tokens[at], 12};
    const auto stops = [&](int32_t id) {
      return std::find(params.stop_token_ids.begin(), params.stop_token_ids.end(), id) != params.stop_token_ids.end();
    };
    const std::vector<int32_t> expected(whole.tokens.begin(), std::find_if(whole.tokens.begin(), whole.tokens.end(), stops));
    const Output got = run_one(*engine, kPrompt, params);
    CAPTURE(at);
    CHECK(got.tokens == expected);
    CHECK(got.reason == FinishReason::stop);
    steps += static_cast<int64_t>(expected.size()) + 1;
  }
  const DecodeCounters counted = since(*engine, before);
  CHECK(counted.left_out >= 3);
  CHECK(counted.steps <= steps);
  // More ids than the device looks at.
  SamplingParams many = params_of(1.0f, 300);
  for (int32_t id = 16000; id < 16020; ++id) many.stop_token_ids.push_back(id);
  many.stop_token_ids.push_back(whole.tokens[100]);
  const Output got = run_one(*engine, kPrompt, many);
  CHECK(got.tokens.size() <= 100);
  CHECK(std::equal(got.tokens.begin(), got.tokens.end(), whole.tokens.begin()));
}

TEST_CASE("going on: cancelled in the middle, and another sequence behind it") {
  const char* name = "going on: cancelled in the middle, and another sequence behind it";
  const auto engine = engine_of(name, 1024);
  if (!engine) return;
  const Output whole = run_one(*engine, kPrompt, params_of(1.0f, 200));
  for (const size_t at : {1, 2, 50, 51}) {
    Collector sink;
    const SequenceId id = engine->add(kPrompt, params_of(1.0f, 200), sink);
    sink.on_each_token = [&](const TokenEvent&) {
      if (sink.outputs[id].tokens.size() == at) engine->cancel(id);
    };
    const DecodeCounters before = cuda_decode_counters(engine->backend());
    run_all(*engine);
    CHECK(sink.outputs[id].reason == FinishReason::cancelled);
    CHECK(sink.outputs[id].tokens.size() == at);
    CHECK(std::equal(sink.outputs[id].tokens.begin(), sink.outputs[id].tokens.end(), whole.tokens.begin()));
    CHECK(since(*engine, before).steps <= static_cast<int64_t>(at) + 1);
    CHECK(run_one(*engine, kPrompt, params_of(1.0f, 200)).tokens == whole.tokens);
  }
}

// A second sequence joins, with its prompt's steps and those of two rows, and leaves again; and one asks for what the kernel does not draw.
TEST_CASE("going on: steps of other kinds in between") {
  const char* name = "going on: steps of other kinds in between";
  const auto run = [&](int steps) {
    std::vector<std::vector<int32_t>> tokens;
    const auto engine = engine_of(name, steps);
    if (!engine) return tokens;
    Collector sink;
    SamplingParams filtered = params_of(0.8f, 30, 5);
    filtered.top_k = 20;
    const std::vector<int32_t> prompt(300, 77);
    std::vector<SequenceId> ids{engine->add(kPrompt, params_of(1.0f, 400), sink)};
    sink.on_each_token = [&](const TokenEvent& event) {
      if (event.sequence != ids.front()) return;
      const size_t count = sink.outputs[ids.front()].tokens.size();
      if (count == 20) ids.push_back(engine->add(prompt, params_of(0.0f, 60), sink));
      if (count == 150) ids.push_back(engine->add(prompt, filtered, sink));
      if (count == 250) ids.push_back(engine->add({1, 2, 3}, params_of(1.0f, 40, 9), sink));
    };
    run_all(*engine);
    for (const SequenceId id : ids) tokens.push_back(sink.outputs[id].tokens);
    tokens.push_back(run_one(*engine, kPrompt, filtered).tokens);
    return tokens;
  };
  const auto got = run(1024);
  if (got.empty()) return;
  CHECK(got == run(1));
  REQUIRE(got.size() == 5);
}
