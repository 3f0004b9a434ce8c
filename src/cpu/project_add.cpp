// x += h W^T + bias. One pass over the weights; a piece of the product is added to x by the worker that computed it.
#include "core/error.h"
#include "cpu/kernels.h"
#include "cpu/product.h"
#include "cpu/vector_ops.h"

namespace bolide {

void cpu_project_add(CpuContext& context, const ProjectAddArgs& args) {
  const auto& weight = static_cast<const CpuMatrix&>(*args.weight);
  BOLIDE_CHECK(args.h.dtype == DType::f32);
  const int64_t width = weight.rows();  // D
  const ProductRows h{static_cast<const float*>(args.h.data), weight.columns(), args.in->counts->tokens};
  run_product(context, weight, 1, h, [&](const ProductPiece& piece) {
    for (int32_t t = 0; t < piece.tokens; ++t) {
      float* sums = piece.c[0] + t * piece.stride;
      if (args.bias) add(sums, args.bias + piece.row, piece.rows);
      add(args.x + (piece.token + t) * width + piece.row, sums, piece.rows);
    }
  });
}

}  // namespace bolide
