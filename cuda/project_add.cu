// project_add: x += h * W^T + bias. The attention output and the MLP's down product.
//
// Layouts: h [T, K] bf16 or f32; W [D, K]; x [T, D] f32, in and out, with room for StepCapacity.tokens rows.
// Few rows: one kernel, the product adding to x as it stores. Many rows: cuBLASLt adds to x itself, or, where a bias or float16
// row scales are involved, writes f32 scratch [T, D] that a second kernel adds. Rows past T of x are unspecified afterwards.
// Bytes moved: the matrix once, + per row K * size + D * 8.
#include "cuda/device/launch.h"
#include "cuda/product.h"

namespace bolide {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) add_rows_kernel(const float* product, int64_t stride, const float* row_scale, const float* bias,
                                                            float* x, int32_t hidden, const int32_t* count) {
  const int row = blockIdx.x;
  if (row >= *count) return;
  const float scale = row_scale ? row_scale[row] : 1.0f;
  for (int i = threadIdx.x; i < hidden; i += kThreads)
    x[static_cast<int64_t>(row) * hidden + i] += product[row * stride + i] * scale + (bias ? bias[i] : 0.0f);
}

}  // namespace

void cuda_project_add(CudaContext& context, const ProjectAddArgs& args) {
  const CudaSite site{"project_add", args.layer};
  const MatrixView weight = matrix_view(*args.weight);
  const Rows rows{context.capacity.tokens, &args.in->counts->tokens};
  const Operand h = activation_operand(context, args.h, weight, rows, site);
  if (few_rows(rows) || (!args.bias && !h.row_scale)) {
    product(context, h, weight, args.x, weight.rows, true, args.bias, rows, site);
    return;
  }
  const int64_t stride = padded_columns(weight.rows);
  require_contract(static_cast<size_t>(rows.capacity) * stride * sizeof(float) <= context.scratch.product_bytes,
                   "reserve() was not called for this many rows", site);
  product(context, h, weight, context.scratch.product, stride, false, nullptr, rows, site);
  launch(site, add_rows_kernel, dim3(rows.capacity), dim3(kThreads), 0, context.stream, context.scratch.product, stride, h.row_scale,
         args.bias, args.x, static_cast<int32_t>(weight.rows), rows.count);
}

}  // namespace bolide
