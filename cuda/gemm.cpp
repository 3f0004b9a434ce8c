// Products with many rows: cuBLASLt, with float32 accumulation and output.
//
// Row-major out [M, N] is column-major [N, M], so the weights are cuBLASLt's first matrix, transposed. 16-bit weights with float32
// operands are widened slice by slice into scratch. A shape that cuBLASLt has no algorithm for goes to the few-row kernel.
#include <algorithm>

#include "cuda/cublaslt.h"
#include "cuda/product.h"

namespace bolide {
namespace {

int alignment(const void* p) {
  const auto address = reinterpret_cast<uintptr_t>(p) | 256;
  return static_cast<int>(address & (~address + 1));
}

}  // namespace

void gemm(CudaContext& context, const Operand& x, const MatrixView& weight, float* out, int64_t out_stride, bool accumulate,
          const Rows& rows, const CudaSite& site) {
  require_contract(x.stride == weight.stride, "the operand's width is not the matrix's", site);
  const auto multiply = [&](const MatrixView& w, float* to) {
    const GemmShape shape{w.dtype,    w.rows,     rows.capacity,     w.stride,          w.stride,     x.stride,
                          out_stride, accumulate, alignment(w.data), alignment(x.data), alignment(to)};
    if (!context.cublas->gemm(shape, w.data, x.data, to, context.stream, site))
      gemv(context, x, w, to, out_stride, accumulate, nullptr, rows, site);
  };
  if (x.dtype == weight.dtype) return multiply(weight, out);

  require_contract(x.dtype == DType::f32, "no product for these dtypes", site);
  const int64_t slice = static_cast<int64_t>(context.scratch.widened_bytes / sizeof(float)) / weight.stride;
  require_contract(slice > 0, "reserve() was not called for matrices of this width", site);
  for (int64_t first = 0; first < weight.rows; first += slice) {
    const int64_t count = std::min(slice, weight.rows - first);
    const auto* from = static_cast<const std::byte*>(weight.data) + first * weight.stride * dtype_size(weight.dtype);
    auto* wide = static_cast<float*>(context.scratch.widened);
    widen_rows(context, from, weight.dtype, wide, count * weight.stride, site);
    multiply({wide, DType::f32, count, weight.columns, weight.stride}, out + first);
  }
}

}  // namespace bolide
