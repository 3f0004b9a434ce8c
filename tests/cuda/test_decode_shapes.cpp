// The decode kernel of every shape that it is compiled for, but for the first, which test_decode_kernel.cpp has: two layers of each.
#include "decode_several.h"

using namespace bolide;
using namespace bolide::cuda_test;

namespace {

// Other numbers of key/value heads than eight, vectors that end in the middle of a stage, octets with rows of Q and K in equal shares.
const std::vector<ModelDims> kOtherShapes{
    {960, 2560, 2, 15, 5, 64, 1096},      // SmolLM2-360M
    {2048, 8192, 2, 32, 32, 64, 1096},    // SmolLM2-1.7B
    {2048, 5632, 2, 32, 4, 64, 1096},     // TinyLlama-1.1B
    {2560, 9728, 2, 32, 8, 128, 1096},    // Qwen3-4B
    {4096, 11008, 2, 32, 32, 128, 1096},  // Llama-2-7B
};

// The longest of `lengths` fits its cache.
StepModelOptions long_model(const ModelDims& dims, int32_t longest) {
  StepModelOptions options = decode_model(dims);
  options.chunks = (longest + options.chunk - 1) / options.chunk;
  return options;
}

// Sequences of a shape with a window in its second layer: two and four of them, in other company, five and eight.
void check_several_of(const char* name, const ModelDims& dims, int32_t longest = 1100, int32_t window = 600) {
  const Positions last{0, 63, 32, 700, 64, longest, 129, 31};
  StepModelOptions options = several_model(last, dims);
  options.window = window;
  if (dims.head_dim == 256) options.activation = GatedActivation::gelu_tanh, options.embed_scale = 3.0f;
  check_several(name, options, {{0, 1, 2, 3}, {3, 5}, {5, 4, 0}, {4, 3, 2, 1, 0}, {0, 1, 2, 3, 4, 5, 6, 7}}, last);
}

}  // namespace

TEST_CASE("decode kernel: several sequences of Qwen3-1.7B's shape") {
  check_several_of("decode kernel: several sequences of Qwen3-1.7B's shape", {2048, 6144, 2, 16, 8, 128, 1096});
}

TEST_CASE("decode kernel: several sequences of Llama-3.2-1B's shape") {
  check_several_of("decode kernel: several sequences of Llama-3.2-1B's shape", {2048, 8192, 2, 32, 8, 64, 1096});
}

TEST_CASE("decode kernel: several sequences of Llama-3.2-3B's shape") {
  check_several_of("decode kernel: several sequences of Llama-3.2-3B's shape", {3072, 8192, 2, 24, 8, 128, 1096});
}

TEST_CASE("decode kernel: several sequences of Qwen3-8B's shape") {
  check_several_of("decode kernel: several sequences of Qwen3-8B's shape", {4096, 12288, 2, 32, 8, 128, 1096});
}

TEST_CASE("decode kernel: several sequences of Llama-3-8B's and Mistral-7B's shape") {
  check_several_of("decode kernel: several sequences of Llama-3-8B's and Mistral-7B's shape", {4096, 14336, 2, 32, 8, 128, 1096});
}

TEST_CASE("decode kernel: several sequences of Mistral-Nemo-12B's shape") {
  check_several_of("decode kernel: several sequences of Mistral-Nemo-12B's shape", {5120, 14336, 2, 32, 8, 128, 1096});
}

TEST_CASE("decode kernel: several sequences of Mistral-Small-24B's shape") {
  check_several_of("decode kernel: several sequences of Mistral-Small-24B's shape", {5120, 32768, 2, 32, 8, 128, 1096});
}

// Shapes that do not fill stages, with one sequence that the blocks of a key/value head go round to again.
TEST_CASE("decode kernel: several sequences of Qwen2.5-0.5B's shape") {
  check_several_of("decode kernel: several sequences of Qwen2.5-0.5B's shape", {896, 4864, 2, 14, 2, 64, 1096}, 2150);
}

TEST_CASE("decode kernel: several sequences of Qwen2.5-1.5B's shape") {
  check_several_of("decode kernel: several sequences of Qwen2.5-1.5B's shape", {1536, 8960, 2, 12, 2, 128, 1096}, 2150);
}

TEST_CASE("decode kernel: several sequences of Qwen2.5-7B's shape") {
  check_several_of("decode kernel: several sequences of Qwen2.5-7B's shape", {3584, 18944, 2, 28, 4, 128, 1096});
}

TEST_CASE("decode kernel: several sequences of shapes with other widths and heads") {
  check_several_of("decode kernel: several sequences of shapes with other widths and heads", GENERATE(from_range(kOtherShapes)));
}

TEST_CASE("decode kernel: several sequences of SmolLM2-135M's shape") {
  check_several_of("decode kernel: several sequences of SmolLM2-135M's shape", {576, 1536, 2, 9, 3, 64, 1096}, 2760);
}

// Heads of 256: where eight share one key/value head, each sequence has blocks of its own, 16 or 32, which go round after 256 and 512
// tokens.
TEST_CASE("decode kernel: several sequences of Gemma-2B's shape") {
  check_several_of("decode kernel: several sequences of Gemma-2B's shape", {2048, 16384, 2, 8, 1, 256, 1096}, 1300, GENERATE(600, 100, 0));
}

TEST_CASE("decode kernel: several sequences of Gemma-7B's shape") {
  check_several_of("decode kernel: several sequences of Gemma-7B's shape", {3072, 24576, 2, 16, 16, 256, 1096}, 1100, GENERATE(600, 100));
}

TEST_CASE("decode kernel: Qwen3-1.7B's shape") {
  check_errors("decode kernel: Qwen3-1.7B's shape", decode_model({2048, 6144, 2, 16, 8, 128, 1024}), {1, 40, 600});
}

TEST_CASE("decode kernel: Llama-3.2-1B's shape") {
  check_errors("decode kernel: Llama-3.2-1B's shape", decode_model({2048, 8192, 2, 32, 8, 64, 1024}), {1, 40, 64, 65, 66, 1100});
}

TEST_CASE("decode kernel: Llama-3.2-3B's shape") {
  check_errors("decode kernel: Llama-3.2-3B's shape", decode_model({3072, 8192, 2, 24, 8, 128, 1024}), {1, 2, 32, 33, 34, 600, 1100});
}

TEST_CASE("decode kernel: Qwen3-8B's shape") {
  check_errors("decode kernel: Qwen3-8B's shape", decode_model({4096, 12288, 2, 32, 8, 128, 1024}), {1, 40, 600});
}

TEST_CASE("decode kernel: Llama-3-8B's and Mistral-7B's shape") {
  StepModelOptions options = decode_model({4096, 14336, 2, 32, 8, 128, 1024});
  options.window = 100;
  check_errors("decode kernel: Llama-3-8B's and Mistral-7B's shape", options, {1, 40, 600});
}

TEST_CASE("decode kernel: Mistral-Nemo-12B's shape") {
  check_errors("decode kernel: Mistral-Nemo-12B's shape", decode_model({5120, 14336, 2, 32, 8, 128, 1024}), {1, 40, 600});
}

TEST_CASE("decode kernel: Mistral-Small-24B's shape") {
  check_errors("decode kernel: Mistral-Small-24B's shape", decode_model({5120, 32768, 2, 32, 8, 128, 1024}), {1, 40, 600});
}

// Shapes whose rows and columns do not fill octets and stages (shape.cuh). Blocks of positions go round after so many tokens as key/value
// heads leave blocks for: 2,048 and more.
TEST_CASE("decode kernel: Qwen2.5-0.5B's shape") {
  check_errors("decode kernel: Qwen2.5-0.5B's shape", long_model({896, 4864, 2, 14, 2, 64, 1096}, 4300),
               {1, 2, 31, 32, 33, 34, 40, 65, 600, 1024, 1025, 2048, 2049, 2080, 2081, 4300});
}

TEST_CASE("decode kernel: Qwen2.5-0.5B's shape, sliding window, no vectors") {
  StepModelOptions options = decode_model({896, 4864, 2, 14, 2, 64, 1096});
  options.vectors = false;
  options.window = 100;
  check_errors("decode kernel: Qwen2.5-0.5B's shape, sliding window, no vectors", options, {1, 50, 100, 101, 133, 700});
}

TEST_CASE("decode kernel: Qwen2.5-1.5B's shape") {
  check_errors("decode kernel: Qwen2.5-1.5B's shape", long_model({1536, 8960, 2, 12, 2, 128, 1096}, 2200),
               {1, 2, 31, 32, 33, 34, 40, 600, 1024, 1025, 2048, 2049, 2081, 2200});
}

TEST_CASE("decode kernel: Qwen2.5-7B's shape") {
  StepModelOptions options = decode_model({3584, 18944, 2, 28, 4, 128, 1096});
  options.window = 200;
  check_errors("decode kernel: Qwen2.5-7B's shape", options, {1, 32, 33, 600, 1024, 1025, 1100});
}

TEST_CASE("decode kernel: shapes with other widths and heads") {
  StepModelOptions options = decode_model(GENERATE(from_range(kOtherShapes)));
  options.window = GENERATE(0, 200);
  check_errors("decode kernel: shapes with other widths and heads", options, {1, 2, 33, 64, 65, 128, 129, 600, 1024, 1025, 1100});
}

TEST_CASE("decode kernel: SmolLM2-135M's shape") {
  check_errors("decode kernel: SmolLM2-135M's shape", long_model({576, 1536, 2, 9, 3, 64, 1096}, 2800),
               {1, 2, 40, 64, 65, 66, 600, 1100, 2688, 2689, 2753, 2800});
}

// Heads of 256: eight to one key/value head, whose 128 blocks' positions go round after 2,048 tokens, and sixteen with one of their own
// each.
TEST_CASE("decode kernel: Gemma-2B's shape") {
  StepModelOptions options = long_model({2048, 16384, 2, 8, 1, 256, 1096}, 2200);
  options.activation = GatedActivation::gelu_tanh;
  options.embed_scale = 3.0f;
  check_errors("decode kernel: Gemma-2B's shape", options,
               {1, 2, 15, 16, 17, 18, 31, 33, 40, 600, 1024, 1025, 2048, 2049, 2050, 2065, 2200});
}

TEST_CASE("decode kernel: Gemma-2B's shape, sliding window, no vectors") {
  StepModelOptions options = decode_model({2048, 16384, 2, 8, 1, 256, 1096});
  options.vectors = false;
  options.window = 100;
  options.activation = GatedActivation::gelu_tanh;
  check_errors("decode kernel: Gemma-2B's shape, sliding window, no vectors", options, {1, 50, 100, 101, 117, 133, 700});
}

TEST_CASE("decode kernel: Gemma-7B's shape") {
  StepModelOptions options = decode_model({3072, 24576, 2, 16, 16, 256, 1096});
  options.activation = GatedActivation::gelu_tanh;
  options.embed_scale = 3.0f;
  options.window = 200;
  check_errors("decode kernel: Gemma-7B's shape", options, {1, 2, 16, 17, 18, 128, 129, 130, 600, 1100});
}

// Gemma's vocabulary, from which the kernel draws what sample draws.
TEST_CASE("decode kernel: 256000 words") {
  const char* name = "decode kernel: 256000 words";
  const auto backend = gpu(name);
  if (!backend) return;
  StepModelOptions options = several_model({90, 40}, {2048, 16384, 1, 8, 1, 256, 256000});
  options.activation = GatedActivation::gelu_tanh;
  StepModel model(*backend, options);
  if (!runs_as_one_kernel(name, *backend, model)) return;
  CHECK(backend->step_form(last_step(model, {0, 1}, {90, 40}), 1).text.rfind("one kernel", 0) == 0);
  run_context(*backend, model, 89);
  for (const float temperature : {0.0f, 1.0f}) {
    for (uint64_t seed = 0; seed < 6; ++seed) {
      SamplingSpec spec;
      spec.temperature = temperature;
      spec.seed = seed;
      spec.position = 90;
      spec.allowed_vocab = seed % 2 ? 0 : 200000;
      const DrawnTokens drawn = draw_both_ways(*backend, model, 89, spec);
      CAPTURE(temperature, seed);
      CHECK(drawn.by_kernel == drawn.by_sample);
    }
  }
}

TEST_CASE("decode kernel: a hundred runs of a shape that does not fill stages give the same bits") {
  const char* name = "decode kernel: a hundred runs of a shape that does not fill stages give the same bits";
  const auto backend = gpu(name);
  if (!backend) return;
  const ModelDims dims = GENERATE(ModelDims{896, 4864, 2, 14, 2, 64, 1096}, ModelDims{1536, 8960, 2, 12, 2, 128, 1096},
                                  ModelDims{576, 1536, 2, 9, 3, 64, 1096}, ModelDims{2048, 16384, 2, 8, 1, 256, 1096},
                                  ModelDims{3072, 24576, 2, 16, 16, 256, 1096});
  StepModel model(*backend, decode_model(dims));
  if (!runs_as_one_kernel(name, *backend, model)) return;
  const std::vector<float> first = last_logits(*backend, model, 300, false);
  for (int i = 0; i < 100; ++i) {
    backend->run_step(model.single);
    backend->sync();
    CAPTURE(dims.hidden, i);
    REQUIRE(same_bits(model.logits(), first));
  }
}
