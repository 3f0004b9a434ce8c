// x[t] = table[token_ids[t]] * scale, widened exactly and multiplied in float32; rope[t] = (cos, sin) of the float32 angle
// position * inverse_frequency. The angle is rounded to float32 as transformers rounds it; its cosine and sine are taken in double
// precision, because angles reach 1e5 radians, where float32 range reduction would lose digits.
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "cpu/kernels.h"

namespace bolide {
namespace {

// Mapped rows may lie at any address, hence memcpy. `widen` is exact.
template <typename Stored, typename Widen>
void scale_row(const void* row, float scale, float* out, int32_t count, Widen widen) {
  const auto* bytes = static_cast<const std::byte*>(row);
  for (int32_t i = 0; i < count; ++i) {
    Stored element;
    std::memcpy(&element, bytes + static_cast<size_t>(i) * sizeof(Stored), sizeof(Stored));
    out[i] = widen(element) * scale;
  }
}

void embed_row(const void* row, DType dtype, float scale, float* out, int32_t count) {
  switch (dtype) {
    case DType::f32:
      return scale_row<float>(row, scale, out, count, [](float v) { return v; });
    case DType::f16:
      return scale_row<uint16_t>(row, scale, out, count, f16_to_f32);
    case DType::bf16:
      return scale_row<uint16_t>(row, scale, out, count, bf16_to_f32);
    case DType::f8:  // no dtype of weights
      return;
  }
}

void rope_row(float position, const float* inverse_frequencies, int32_t pairs, float* out) {
  for (int32_t i = 0; i < pairs; ++i) {
    const float angle = position * inverse_frequencies[i];
    out[2 * i] = static_cast<float>(std::cos(static_cast<double>(angle)));
    out[2 * i + 1] = static_cast<float>(std::sin(static_cast<double>(angle)));
  }
}

}  // namespace

void cpu_embed(CpuContext& context, const EmbedArgs& args) {
  const StepInputs& in = *args.in;
  const int32_t tokens = in.counts->tokens;
  const auto& table = static_cast<const CpuMatrix&>(*args.table);
  BOLIDE_CHECK(table.columns() == args.hidden && args.head_dim % 2 == 0);
  const auto id_of = [&](int64_t t) {
    const int32_t id = in.token_ids[t];
    return id < 0 && args.previous ? args.previous[-1 - id].id : id;
  };
  for (int32_t t = 0; t < tokens; ++t) {
    if (id_of(t) < 0 || id_of(t) >= table.rows()) {
      throw Error(
          fmt::format("embed: token id {} in row {} of the step is outside the embedding table (0 to {}). Check that the tokenizer "
                      "belongs to this model",
                      id_of(t), t, table.rows() - 1));
    }
  }
  const int32_t pairs = args.head_dim / 2;
  context.pool.parallel_for(tokens, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      embed_row(table.row(id_of(t)), table.dtype(), args.scale, args.x + t * args.hidden, args.hidden);
      rope_row(static_cast<float>(in.positions[t]), args.inverse_frequencies, pairs, args.rope + t * args.head_dim);
    }
  });
}

}  // namespace bolide
