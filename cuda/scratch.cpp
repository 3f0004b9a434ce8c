#include "cuda/scratch.h"

#include <algorithm>

#include "cuda/halves.h"

namespace bolide {
namespace {

constexpr size_t kWidenedBytes = size_t{64} << 20;

}  // namespace

size_t ScratchSizes::total() const {
  return operand + row_scale + product + widened + wide + sampling + halves + attention.partial_bytes + attention.arrival_bytes;
}

ScratchSizes scratch_sizes(const StepCapacity& c, const ModelDims& dims, const CudaContext& context) {
  const auto size = [](int64_t n) { return static_cast<size_t>(n); };
  const int64_t q = int64_t{dims.heads} * dims.head_dim, qkv = q + 2 * int64_t{dims.kv_heads} * dims.head_dim;
  const int64_t widest_in = padded_columns(std::max<int64_t>({dims.hidden, dims.mlp, q}));
  const int64_t widest_out = padded_columns(std::max<int64_t>({dims.hidden, 2 * int64_t{dims.mlp}, qkv}));
  const int64_t rows = std::max(c.tokens, c.logit_rows);
  ScratchSizes sizes{};
  sizes.operand = size(rows * widest_in) * sizeof(float);
  sizes.row_scale = size(rows) * sizeof(float);
  sizes.product = size(c.tokens * widest_out) * sizeof(float);
  sizes.widened = std::max(kWidenedBytes, size(widest_in) * sizeof(float));
  sizes.sampling = size(int64_t{c.logit_rows} * dims.vocab) * sizeof(float);
  sizes.halves = halves_scratch(c);
  sizes.wide = attention_wide_scratch(context, c, dims.kv, dims.kv_heads, dims.head_dim);
  sizes.attention = attention_scratch(context.multiprocessors, std::max(std::min(c.tokens, kFewRows), c.sequences), dims.heads,
                                      dims.kv_heads, dims.head_dim);
  return sizes;
}

}  // namespace bolide
