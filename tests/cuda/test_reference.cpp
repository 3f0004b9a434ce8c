// Reference checkpoints on the GPU: in float32 held to the CPU's bounds, and in bfloat16 to what transformers' own bfloat16 loses.
#include "catch.h"
#include "exec/converted_weights.h"
#include "exec/reference_runner.h"
#include "gpu.h"

using namespace bolide;
using namespace bolide::test;

namespace {

OpenModel open_reference(const std::string& name) {
  ModelSource source;
  source.folder = reference_folder(name);
  return open_model(source);
}

void check(Backend& backend, const ModelWeights& weights, const OpenModel& model, const Reference& reference, RunPlan plan, double bound) {
  plan.backend = &backend;
  const Deviation deviation = run_reference(model, weights, reference, plan);
  CAPTURE(plan.prefill_rows, plan.chunk_tokens, plan.companions, deviation.prompt_logprob, deviation.greedy_logprob);
  CHECK(deviation.wrong_token == "");
  CHECK(deviation.largest() <= bound);
}

// Largest errors against float32 of transformers 5.17 with the model loaded in bfloat16: log-probabilities of the prompt's tokens, and
// of the greedy tokens and their best five alternatives. The largest of a hundred errors scatters, so a checkpoint may show half as much
// again; all of them together may not show more.
struct Bf16Error {
  const char* name;
  double prompt, greedy;
};
constexpr Bf16Error kTransformers[] = {{"qwen3-28l-bf16", 0.781, 0.596},
                                       {"llama-gqa-bf16", 0.0427, 0.0538},
                                       {"tiny-qwen2-bf16", 0.175, 0.189},
                                       {"tiny-gemma-bf16", 0.264, 0.219},
                                       {"tiny-mistral-window-f16", 0.218, 0.288},
                                       {"tiny-llama3-rope-bf16", 0.172, 0.176},
                                       {"tiny-llama-bias-f32-shards", 0.201, 0.351},
                                       {"tiny-qwen3-text-bf16", 0.151, 0.307}};

}  // namespace

TEST_CASE("float32 arithmetic gives transformers' tokens and log-probabilities") {
  const auto backend = cuda_test::gpu("float32 arithmetic gives transformers' tokens and log-probabilities", DType::f32);
  if (!backend) return;
  for (const std::string& name : reference_names()) {
    INFO(name);
    const OpenModel model = open_reference(name);
    check(*backend, model.weights, model, load_reference(reference_folder(name)), {}, 2e-3);
  }
}

TEST_CASE("float32 arithmetic: prefill in pieces, chunk sizes and company change nothing") {
  const auto backend = cuda_test::gpu("float32 arithmetic: prefill in pieces, chunk sizes and company change nothing", DType::f32);
  if (!backend) return;
  for (const std::string name : {"llama-gqa-bf16", "tiny-mistral-window-f16", "tiny-llama-bias-f32-shards"}) {
    const OpenModel model = open_reference(name);
    const Reference reference = load_reference(reference_folder(name));
    for (const int32_t prefill_rows : {1, 7, 64}) {
      for (const int companions : {0, 3}) {
        INFO(name);
        check(*backend, model.weights, model, reference, {prefill_rows, prefill_rows == 7 ? 16 : 64, DType::f32, companions, 12}, 2e-3);
      }
    }
  }
}

TEST_CASE("bfloat16 activations lose no more than transformers in bfloat16") {
  const auto backend = cuda_test::gpu("bfloat16 activations lose no more than transformers in bfloat16");
  if (!backend) return;
  double sum = 0.0, allowed = 0.0;
  for (const Bf16Error& error : kTransformers) {
    const OpenModel model = open_reference(error.name);
    const Reference reference = load_reference(reference_folder(error.name));
    for (const int32_t prefill_rows : {512, 7}) {
      RunPlan plan;
      plan.prefill_rows = prefill_rows;
      plan.kv_dtype = DType::bf16;
      plan.backend = backend.get();
      const Deviation deviation = run_reference(model, model.weights, reference, plan, 0.5);
      CAPTURE(error.name, prefill_rows, deviation.prompt_logprob, deviation.greedy_logprob);
      CHECK(deviation.wrong_token == "");
      CHECK(deviation.prompt_logprob <= 1.5 * error.prompt);
      CHECK(deviation.greedy_logprob <= 1.5 * error.greedy);
      sum += deviation.prompt_logprob + deviation.greedy_logprob;
      allowed += error.prompt + error.greedy;
      CHECK(deviation.largest() > 1e-5);  // otherwise nothing was rounded
    }
  }
  CHECK(sum <= allowed);
}

// The CPU's bound for e4m3 (tests/exec/test_reference.cpp), whole prompts and pieces, with so few sequences that one row's kernels take
// them and with more.
TEST_CASE("a KV cache in fp8 moves log-probabilities within its bound") {
  const auto backend = cuda_test::gpu("a KV cache in fp8 moves log-probabilities within its bound");
  if (!backend) return;
  for (const std::string name : {"qwen3-28l-bf16", "llama-gqa-bf16", "tiny-gemma-bf16", "tiny-mistral-window-f16"}) {
    const OpenModel model = open_reference(name);
    const Reference reference = load_reference(reference_folder(name));
    for (const int32_t prefill_rows : {512, 7}) {
      for (const int companions : {0, 12}) {
        RunPlan plan{prefill_rows, 64, DType::f8, companions, 24};
        plan.backend = backend.get();
        const Deviation deviation = run_reference(model, model.weights, reference, plan, 8.0);
        CAPTURE(name, prefill_rows, companions, deviation.prompt_logprob, deviation.greedy_logprob);
        CHECK(deviation.wrong_token == "");
        CHECK(deviation.largest() <= 4.0);
        CHECK(deviation.largest() > 1e-3);  // otherwise the cache was not rounded at all
      }
    }
  }
}

TEST_CASE("weights of another dtype give the same results in float32") {
  const auto backend = cuda_test::gpu("weights of another dtype give the same results in float32", DType::f32);
  if (!backend) return;
  const OpenModel model = open_reference("llama-gqa-bf16");
  const Reference reference = load_reference(reference_folder("llama-gqa-bf16"));
  const ConvertedWeights wide(model.weights, DType::f32), half(model.weights, DType::f16);
  check(*backend, wide.weights(), model, reference, {}, 2e-3);
  check(*backend, half.weights(), model, reference, {}, 2e-3);
}
