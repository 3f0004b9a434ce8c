// logits: logits[r] = (rmsnorm(x[logit_rows[r]]) * norm) * Whead^T.
//
// Layouts: x [T, D] f32; Whead [V, D]; logits [R, V] f32, with room for StepCapacity.logit_rows rows.
// One kernel for few rows on Hopper (kernels/row_product.cu). Else two: norm_operand over the gathered rows, and the product
// straight into the logits; float16 heads with many rows need a third, which applies the row scales. Rows past R are unspecified afterwards.
// Bytes moved: the matrix once, + per row D * 4 + V * 4.
#include "cuda/device/launch.h"
#include "cuda/product.h"

namespace bolide {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) scale_rows_kernel(float* logits, const float* row_scale, int32_t vocab, const int32_t* count) {
  const int row = blockIdx.y, i = blockIdx.x * kThreads + threadIdx.x;
  if (row < *count && i < vocab) logits[static_cast<int64_t>(row) * vocab + i] *= row_scale[row];
}

}  // namespace

void cuda_logits(CudaContext& context, const LogitsArgs& args) {
  const CudaSite site{"logits"};
  const MatrixView head = matrix_view(*args.head);
  const Rows rows{context.capacity.logit_rows, &args.in->counts->logit_rows};
  if (rows.capacity == 0) return;
  require_contract(head.rows == args.vocab && head.columns == args.hidden, "the matrix is not [V, D]", site);
  if (row_product_fits(context, head, rows)) {
    norm_gemv(context, {args.x, args.norm, args.norm_eps, args.in->logit_rows}, head, args.logits, args.vocab, rows, site);
    return;
  }
  const Operand n = norm_operand(context, args.x, args.norm, args.norm_eps, args.hidden, head, rows, args.in->logit_rows, site);
  product(context, n, head, args.logits, args.vocab, false, nullptr, rows, site);
  if (n.row_scale) {
    launch(site, scale_rows_kernel, dim3((args.vocab + kThreads - 1) / kThreads, rows.capacity), dim3(kThreads), 0, context.stream,
           args.logits, n.row_scale, args.vocab, rows.count);
  }
}

}  // namespace bolide
