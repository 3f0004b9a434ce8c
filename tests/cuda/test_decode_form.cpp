// How decode steps of a model will run, as `bolide inspect` asks: from its shape alone, on a device that is only described. No GPU needed.
#include "catch.h"
#include "cuda/architectures.h"
#include "cuda/context.h"
#include "cuda/decode/decode_step.h"

using namespace bolide;

namespace {

CudaContext h100() {
  CudaContext context{};
  context.compute_capability = 90;
  context.multiprocessors = 132;
  context.activations = DType::bf16;
  return context;
}
// Qwen3-0.6B with a cache for a sequence of its whole context.
DecodeModel qwen3_600m() {
  DecodeModel model;
  model.dims = {1024, 3072, 28, 16, 8, 128, 151936};
  model.weights = model.kv = DType::bf16;
  model.chunk_tokens = 64;
  model.chunks = 640;
  model.longest = 40960;
  return model;
}
void check_form(const CudaContext& context, const DecodeModel& model, int32_t up_to, const std::string& reason) {
  const DecodeForm form = DecodeSteps::form(context, model);
  CHECK(form.one_kernel_up_to == up_to);
  CHECK(form.reason == reason);
}

}  // namespace

TEST_CASE("decode form: the device") {
  CudaContext other = h100();
  other.compute_capability = 80;
  check_form(other, qwen3_600m(), 0, "needs compute capability 9.0 and code compiled for sm_90a");
  if (!compiled_architectures().holds("sm_90a")) {
    check_form(h100(), qwen3_600m(), 0, "needs compute capability 9.0 and code compiled for sm_90a");
    return;
  }
  other = h100();
  other.multiprocessors = 114;
  check_form(other, qwen3_600m(), 0, "needs 128 multiprocessors");
  other = h100();
  other.activations = DType::f32;
  check_form(other, qwen3_600m(), 0, "takes bfloat16 activations");
}

TEST_CASE("decode form: the model and its cache") {
  if (!compiled_architectures().holds("sm_90a")) return;
  check_form(h100(), qwen3_600m(), 8, "takes at most 8 rows");
  DecodeModel model = qwen3_600m();
  model.dims = {2048, 6144, 28, 16, 8, 128, 151936};  // Qwen3-1.7B
  check_form(h100(), model, 8, "takes at most 8 rows");
  model.dims = {2048, 8192, 16, 32, 8, 64, 128256};  // Llama-3.2-1B, whose blocks of positions are twice as long
  model.longest = 131072;
  check_form(h100(), model, 8, "takes at most 8 rows");
  model.longest = 129 * 16 * 64 + 1;
  check_form(h100(), model, 4, "takes contexts of at most 132096 tokens in more than 4 rows");
  model.longest = 40960;
  model.dims = {1024, 2816, 24, 16, 16, 64, 151936};  // Qwen1.5-0.5B
  check_form(h100(), model, 0, "is not compiled for hidden 1024, 16 query and 16 key/value heads of 64, MLP 2816");
  for (const ModelDims& dims : {ModelDims{896, 4864, 24, 14, 2, 64, 151936}, ModelDims{1536, 8960, 28, 12, 2, 128, 151936},
                                ModelDims{3584, 18944, 28, 28, 4, 128, 152064}, ModelDims{576, 1536, 30, 9, 3, 64, 49152},
                                ModelDims{960, 2560, 32, 15, 5, 64, 49152}, ModelDims{2560, 9728, 36, 32, 8, 128, 151936}}) {
    model.dims = dims;  // Qwen2.5, SmolLM2, Qwen3-4B
    check_form(h100(), model, 8, "takes at most 8 rows");
  }
  for (const ModelDims& dims : {ModelDims{2048, 8192, 24, 32, 32, 64, 49152}, ModelDims{4096, 11008, 32, 32, 32, 128, 32000},
                                ModelDims{2048, 5632, 22, 32, 4, 64, 32000}}) {
    model.dims = dims;  // SmolLM2-1.7B, Llama-2-7B, TinyLlama-1.1B
    model.longest = 8192;
    check_form(h100(), model, 8, "takes at most 8 rows");
  }
  model.dims = {1536, 8960, 28, 12, 2, 128, 151936};
  model.longest = 511 * 64 * 32 + 1;  // more blocks share a key/value head
  check_form(h100(), model, 0, "takes contexts of at most 1046528 tokens");
  for (const ModelDims& dims : {ModelDims{2048, 16384, 18, 8, 1, 256, 256000}, ModelDims{3072, 24576, 28, 16, 16, 256, 256000}}) {
    model = qwen3_600m();
    model.dims = dims;  // Gemma
    model.longest = 8192;
    check_form(h100(), model, 8, "takes at most 8 rows");
    model.chunk_tokens = 24;
    check_form(h100(), model, 0, "takes KV chunks of a multiple of 16 tokens");
  }
  model = qwen3_600m();
  model.dims = {2048, 16384, 26, 8, 4, 256, 256000};
  check_form(h100(), model, 0, "is not compiled for hidden 2048, 8 query and 4 key/value heads of 256, MLP 16384");
  model = qwen3_600m();
  model.dims.vocab = 151669;
  check_form(h100(), model, 0, "takes a vocabulary of a multiple of 8, not 151669");
  model = qwen3_600m();
  model.kv = DType::f8;
  check_form(h100(), model, 0, "takes a bfloat16 KV cache");
  model = qwen3_600m();
  model.chunk_tokens = 16;
  check_form(h100(), model, 0, "takes KV chunks of a multiple of 32 tokens");
  model = qwen3_600m();
  model.longest = 129 * 16 * 32;
  check_form(h100(), model, 8, "takes at most 8 rows");
  ++model.longest;
  check_form(h100(), model, 4, "takes contexts of at most 66048 tokens in more than 4 rows");
  model.longest = 259 * 16 * 32;
  check_form(h100(), model, 4, "takes contexts of at most 66048 tokens in more than 4 rows");
  ++model.longest;
  check_form(h100(), model, 1, "takes contexts of at most 132608 tokens in more than 1 row");
  model.longest = 511 * 16 * 32;
  check_form(h100(), model, 1, "takes contexts of at most 132608 tokens in more than 1 row");
  ++model.longest;
  check_form(h100(), model, 0, "takes contexts of at most 261632 tokens");
  model.dims = {2048, 6144, 28, 16, 8, 128, 151936};  // Qwen3-1.7B, where no row has its blocks twice
  model.longest = 511 * 16 * 32;
  check_form(h100(), model, 4, "takes contexts of at most 66048 tokens in more than 4 rows");
  for (const std::optional<DType> weights : {std::optional(DType::f16), std::optional<DType>()}) {
    model = qwen3_600m();
    model.weights = weights;
    check_form(h100(), model, 0, "takes bfloat16 weights");
  }
}
