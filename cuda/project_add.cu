// project_add: x += h * W^T + bias. The attention output and the MLP's down product.
//
// Layouts: h [T, K] bf16 or f32; W [D, K]; x [T, D] f32, in and out, with room for StepCapacity.tokens rows.
// Few rows: one kernel, the product adding to x as it stores. Up to some hundred rows on Hopper: parts of the products in scratch
// (kernels/tile_product.cu), which the norm behind adds to x, or a kernel here. More rows: cuBLASLt adds to x itself, or, where a bias or
// float16 row scales are involved, writes f32 scratch [T, D] that a second kernel adds. Rows past T of x are unspecified afterwards.
// Bytes moved: the matrix once, + per row K * size + D * 8.
#include <algorithm>

#include "cuda/device/dependent.cuh"
#include "cuda/device/launch.h"
#include "cuda/device/pending_sum.cuh"
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

__global__ void __launch_bounds__(kThreads) settle_kernel(PendingSum owed, const int32_t* count) {
  const int row = blockIdx.x;
  let_next_start();
  const bool present = row < *count;  // known while the kernels in front still run
  wait_for_previous();
  if (!present) return;
  for (int i = threadIdx.x * 4; i < owed.columns; i += kThreads * 4) {
    Pack<float, 4> x = *reinterpret_cast<const Pack<float, 4>*>(owed.x + static_cast<int64_t>(row) * owed.columns + i);
    settle(x, owed, row, i);
  }
}

Rows rows_of(const CudaContext& context, const ProjectAddArgs& args) { return {context.capacity.tokens, &args.in->counts->tokens}; }

}  // namespace

bool project_makes_parts(const CudaContext& context, const ProjectAddArgs& args) {
  const MatrixView weight = matrix_view(*args.weight);
  const Rows rows = rows_of(context, args);
  return tile_parts_fit(context, operand_dtype(context.activations, weight.dtype, few_rows(rows)), weight, rows);
}

PendingSum cuda_project_parts(CudaContext& context, const ProjectAddArgs& args) {
  const CudaSite site{"project_add", args.layer};
  const MatrixView weight = matrix_view(*args.weight);
  const Rows rows = rows_of(context, args);
  const Operand h = activation_operand(context, args.h, weight, rows, site);
  const int64_t stride = weight.rows, part_stride = stride * rows.capacity;
  const auto room = static_cast<int64_t>(context.scratch.product_bytes / sizeof(float)) / part_stride;
  require_contract(room > 0, "reserve() was not called for this many rows", site);
  const int parts = static_cast<int>(std::min<int64_t>(tile_parts(context, weight, rows), room));
  tile_product_parts(context, h, weight, context.scratch.product, stride, parts, rows, site);
  return {args.x, context.scratch.product, parts, static_cast<int32_t>(weight.rows), stride, part_stride, args.bias};
}

void cuda_project_add(CudaContext& context, const ProjectAddArgs& args) {
  const CudaSite site{"project_add", args.layer};
  const MatrixView weight = matrix_view(*args.weight);
  const Rows rows = rows_of(context, args);
  if (project_makes_parts(context, args)) {
    const PendingSum owed = cuda_project_parts(context, args);
    launch_with({context.dependent_launch}, site, settle_kernel, dim3(rows.capacity), dim3(kThreads), 0, context.stream, owed, rows.count);
    return;
  }
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
