// Checkpoints against transformers' float32 results (tests/data/reference).
#include "catch.h"
#include "converted_weights.h"
#include "reference_runner.h"

using namespace bolide;
using namespace bolide::test;

namespace {

OpenModel open_reference(const std::string& name) {
  ModelSource source;
  source.folder = reference_folder(name);
  return open_model(source);
}

void check_reference(const OpenModel& model, const ModelWeights& weights, const Reference& reference, const RunPlan& plan, double bound) {
  const Deviation deviation = run_reference(model, weights, reference, plan);
  const bool wrong = !deviation.wrong_token.empty() || !(deviation.largest() <= bound);
  const std::string divergence = wrong ? first_divergence(model, weights, reference, bound) : "";
  INFO("first divergence at the prompt's last position: " << (divergence.empty() ? "none" : divergence));
  CAPTURE(plan.prefill_rows, plan.chunk_tokens, plan.companions, deviation.prompt_logprob, deviation.greedy_logprob);
  CHECK(deviation.wrong_token == "");
  CHECK(deviation.prompt_logprob <= bound);
  CHECK(deviation.greedy_logprob <= bound);
}

}  // namespace

TEST_CASE("reference checkpoints give transformers' tokens and log-probabilities") {
  for (const std::string& name : reference_names()) {
    DYNAMIC_SECTION(name) {
      const OpenModel model = open_reference(name);
      // 2e-3 is what is promised; float32 sums in another order stay a hundredfold below it.
      check_reference(model, model.weights, load_reference(reference_folder(name)), {}, 3e-4);
    }
  }
}

TEST_CASE("the residual stream follows the reference layer by layer") {
  for (const std::string& name : reference_names()) {
    DYNAMIC_SECTION(name) {
      const OpenModel model = open_reference(name);
      CHECK(first_divergence(model, model.weights, load_reference(reference_folder(name)), 1e-3) == "");
    }
  }
}

TEST_CASE("prefill in pieces, chunk sizes and company change nothing") {
  for (const std::string name : {"llama-gqa-bf16", "tiny-mistral-window-f16", "tiny-llama-bias-f32-shards", "tiny-qwen3-text-bf16"}) {
    const OpenModel model = open_reference(name);
    const Reference reference = load_reference(reference_folder(name));
    for (const int32_t prefill_rows : {1, 7, 64}) {
      for (const int32_t chunk_tokens : {16, 64}) {
        for (const int companions : {0, 3}) {
          INFO(name);
          check_reference(model, model.weights, reference, {prefill_rows, chunk_tokens, DType::f32, companions, 12}, 2e-3);
        }
      }
    }
  }
}

TEST_CASE("the number of threads changes nothing") {
  const OpenModel model = open_reference("tiny-llama-bias-f32-shards");
  const Reference reference = load_reference(reference_folder("tiny-llama-bias-f32-shards"));
  for (const int threads : {2, 3}) check_reference(model, model.weights, reference, {32, 16, DType::f32, 0, 12, threads}, 2e-3);
}

TEST_CASE("the deepest checkpoint keeps its figures when prefilled in pieces among others") {
  const OpenModel model = open_reference("qwen3-28l-bf16");
  check_reference(model, model.weights, load_reference(reference_folder("qwen3-28l-bf16")), {7, 16, DType::f32, 3, 48}, 2e-3);
}

// Rounding K and V when they are stored costs this much; float16 keeps 11 bits of a value, bfloat16 8, fp8 4.
TEST_CASE("a KV cache of 16 or 8 bits moves log-probabilities within its own bound") {
  for (const std::string name : {"qwen3-28l-bf16", "llama-gqa-bf16", "tiny-gemma-bf16", "tiny-mistral-window-f16"}) {
    const OpenModel model = open_reference(name);
    const Reference reference = load_reference(reference_folder(name));
    for (const DType kv : {DType::f16, DType::bf16, DType::f8}) {
      RunPlan plan;
      plan.kv_dtype = kv;
      const double bound = kv == DType::f16 ? 0.03 : kv == DType::bf16 ? 0.3 : 4.0;
      const Deviation deviation = run_reference(model, model.weights, reference, plan, 2 * bound);
      CAPTURE(name, dtype_name(kv), deviation.prompt_logprob, deviation.greedy_logprob);
      CHECK(deviation.wrong_token == "");
      CHECK(deviation.largest() <= bound);
      CHECK(deviation.largest() > 1e-6);  // otherwise the cache was not rounded at all
    }
  }
}

TEST_CASE("the same weights stored in another dtype give the same results") {
  for (const std::string name : {"llama-gqa-bf16", "tiny-qwen2-bf16", "tiny-gemma-bf16"}) {
    const OpenModel model = open_reference(name);
    const Reference reference = load_reference(reference_folder(name));
    INFO(name);
    const ConvertedWeights wide(model.weights, DType::f32);  // exact
    check_reference(model, wide.weights(), reference, {}, 2e-3);
    // bf16's 8 significant bits fit f16's 11; only values below 2^-14 lose any.
    const ConvertedWeights half(model.weights, DType::f16);
    check_reference(model, half.weights(), reference, {}, 2e-3);
  }
  const OpenModel model = open_reference("tiny-llama-bias-f32-shards");
  const ConvertedWeights rounded(model.weights, DType::bf16);  // from f32: 16 bits lost of each weight
  RunPlan plan;
  plan.greedy_steps = 1;
  const Deviation deviation =
      run_reference(model, rounded.weights(), load_reference(reference_folder("tiny-llama-bias-f32-shards")), plan, 1.0);
  CAPTURE(deviation.prompt_logprob);
  CHECK(deviation.prompt_logprob > 1e-4);
  CHECK(deviation.prompt_logprob < 0.3);
}

TEST_CASE("tensors of one stacked matrix may differ in dtype") {
  const OpenModel model = open_reference("tiny-qwen2-bf16");
  const ConvertedWeights wide(model.weights, DType::f32);
  ModelWeights mixed = model.weights;
  mixed.layers[0].k.weight = wide.weights().layers[0].k.weight;
  mixed.layers[1].up.weight = wide.weights().layers[1].up.weight;
  mixed.layers[1].q.bias = wide.weights().layers[1].q.bias;
  check_reference(model, mixed, load_reference(reference_folder("tiny-qwen2-bf16")), {}, 2e-3);
}
