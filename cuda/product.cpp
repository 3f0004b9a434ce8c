#include "cuda/product.h"

namespace bolide {

void product(CudaContext& context, const Operand& x, const MatrixView& weight, float* out, int64_t out_stride, bool accumulate,
             const float* bias, const Rows& rows, const CudaSite& site) {
  if (few_rows(rows)) {
    gemv(context, x, weight, out, out_stride, accumulate, bias, rows, site);
  } else {
    require_contract(bias == nullptr, "a bias for many rows belongs into the epilogue", site);
    gemm(context, x, weight, out, out_stride, accumulate, rows, site);
  }
}

}  // namespace bolide
