// logits[r] = (rmsnorm(x[logit_rows[r]]) * norm) Whead^T. The head is the largest matrix of a small model, and only the rows that need
// logits pass over it.
#include <algorithm>

#include "core/error.h"
#include "cpu/kernels.h"
#include "cpu/product.h"

namespace bolide {

void cpu_logits(CpuContext& context, const LogitsArgs& args) {
  const auto& head = static_cast<const CpuMatrix&>(*args.head);
  BOLIDE_CHECK(head.rows() == args.vocab && head.columns() == args.hidden);
  const int64_t vocab = args.vocab;
  const ProductRows x{args.x, args.hidden, args.in->counts->logit_rows, args.in->logit_rows, args.norm, args.norm_eps};
  run_product(context, head, 1, x, [&](const ProductPiece& piece) {
    for (int32_t t = 0; t < piece.tokens; ++t) {
      std::copy_n(piece.c[0] + t * piece.stride, piece.rows, args.logits + (piece.token + t) * vocab + piece.row);
    }
  });
}

}  // namespace bolide
