// Sequences that go on behind copied tokens: as steps, captured and replayed, and through the engine with two steps under way.
#include "catch.h"
#include "engine/deferred_backend.h"
#include "gpu.h"
#include "step_model.h"

using namespace bolide;
using namespace bolide::cuda_test;
using namespace bolide::test;

namespace {

std::unique_ptr<Engine> float_engine(std::unique_ptr<Backend> backend, bool prefix_cache) {
  EngineOptions options = small_options();
  options.max_num_seqs = 6;
  options.chunk_tokens = 32;
  options.ctx_size = 128;
  options.max_num_batched_tokens = 128;
  options.prefix_cache = prefix_cache;
  return make_engine(load_engine(reference_source("tiny-qwen3-text-bf16"), options, {std::move(backend), "a test"}));
}

void check_close(const Output& got, const Output& expected) {
  CHECK(got.tokens == expected.tokens);
  REQUIRE(got.logprobs.size() == expected.logprobs.size());
  for (size_t i = 0; i < got.logprobs.size(); ++i) CHECK(std::abs(got.logprobs[i] - expected.logprobs[i]) < 2e-3f);
}

}  // namespace

TEST_CASE("a step that begins with a copy goes on as the copied sequence does, each time it is run") {
  const auto backend = gpu("a step that begins with a copy goes on as the copied sequence does, each time it is run");
  if (!backend) return;
  constexpr int32_t kKnown = 8, kFrom = 7, kTo = 0;
  for (const int32_t rows : {1, 5}) {
    INFO("rows " << rows);
    StepModelOptions options;
    options.rows = kKnown;
    StepModel model(*backend, options);
    const auto run = [&](int32_t first, int32_t count) {
      model.fill(first, count);
      backend->run_step(model.step);
      backend->sync();
      return model.logits();
    };
    run(0, kKnown);
    const std::vector<float> expected = run(kKnown, rows);
    for (int i = 0; i < 4; ++i) {  // eagerly, captured, replayed
      INFO("run " << i);
      // Another text in the copy's place.
      model.set_first_chunk(kTo);
      model.step.copies.clear();
      model.fill(0, kKnown);
      model.set_tokens({5 + i});
      backend->run_step(model.step);
      CHECK_FALSE(same_bits(run(kKnown, rows), expected));
      model.step.copies = {{kFrom, kTo, kKnown}};
      CHECK(same_bits(run(kKnown, rows), expected));
      model.step.copies.clear();
      model.set_first_chunk(kFrom);
      CHECK(same_bits(run(kKnown, rows), expected));  // what was copied is as it was
    }
  }
}

TEST_CASE("float32 arithmetic: forks and turns go on from copies as if all had been computed") {
  const char* name = "float32 arithmetic: forks and turns go on from copies as if all had been computed";
  auto backend = gpu(name, DType::f32);
  if (!backend) return;
  const auto engine = float_engine(std::move(backend), true), plain = float_engine(gpu(name, DType::f32), false);
  std::vector<Request> forks;
  for (uint64_t key = 0; key < 6; ++key) {
    Request& request = forks.emplace_back();
    for (int32_t i = 0; i < 83; ++i) request.prompt.push_back(7 * i % 300);
    request.params = greedy_params(20);
    request.params.logprobs = 0;
    request.params.temperature = 1.0f;
    request.params.sequence_key = key;
  }
  const std::vector<Output> got = run_together(*engine, forks);
  for (size_t i = 0; i < forks.size(); ++i) {
    INFO("fork " << i);
    CHECK(got[i].stats.cached_tokens == (i == 0 ? 0 : 82));
    check_close(got[i], run_one(*plain, forks[i].prompt, forks[i].params));
  }
  CHECK(engine->counters().steps_ahead > 0);
  std::vector<int32_t> talk;
  for (int32_t i = 0; i < 20; ++i) talk.push_back((11 * i + 5) % 300);
  SamplingParams params = greedy_params(13);
  params.logprobs = 0;
  for (int turn = 0; turn < 4; ++turn) {
    INFO("turn " << turn);
    const Output output = run_one(*engine, talk, params);
    CHECK(output.stats.cached_tokens == (turn == 0 ? 0 : static_cast<int32_t>(talk.size()) - 3));
    check_close(output, run_one(*plain, talk, params));
    talk.insert(talk.end(), output.tokens.begin(), output.tokens.end());
    talk.insert(talk.end(), {1, 2});
  }
}
