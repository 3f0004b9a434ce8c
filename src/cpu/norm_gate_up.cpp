// n = rmsnorm(x) * norm; out = activation(n Wgate^T + bg) * (n Wup^T + bu). A unit of work holds the same rows of gate and up, so that
// their sums meet in the worker's cache.
#include "core/error.h"
#include "cpu/kernels.h"
#include "cpu/product.h"
#include "cpu/vector_ops.h"

namespace bolide {

void cpu_norm_gate_up(CpuContext& context, const NormGateUpArgs& args) {
  const auto& gate_up = static_cast<const CpuMatrix&>(*args.gate_up);
  BOLIDE_CHECK(args.out.dtype == DType::f32);
  BOLIDE_CHECK(gate_up.rows() == 2 * static_cast<int64_t>(args.mlp) && gate_up.columns() == args.hidden);
  const int64_t mlp = args.mlp;
  auto* out = static_cast<float*>(args.out.data);
  const ProductRows x{args.x, args.hidden, args.in->counts->tokens, nullptr, args.norm, args.norm_eps};
  run_product(context, gate_up, 2, x, [&](const ProductPiece& piece) {
    for (int32_t t = 0; t < piece.tokens; ++t) {
      float* gate = piece.c[0] + t * piece.stride;
      float* up = piece.c[1] + t * piece.stride;
      if (args.bias) {
        add(gate, args.bias + piece.row, piece.rows);
        add(up, args.bias + mlp + piece.row, piece.rows);
      }
      gated_activation(args.activation, gate, up, piece.rows, out + (piece.token + t) * mlp + piece.row);
    }
  });
}

}  // namespace bolide
