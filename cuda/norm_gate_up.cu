// norm_gate_up: n = rmsnorm(x) * norm; out = activation(n * Wgate^T + bg) * (n * Wup^T + bu).
//
// Layouts: x [T, D] f32; W [2 F, D], gate rows, then up rows; bias [2 F] f32 or null; out [T, F] bf16 or f32.
// Few rows: one kernel (gemv.cu), in which each block makes the norm for itself and a warp a gate and its up. Many rows: norm_operand,
// the product into f32 scratch [T, 2 F], and the epilogue here, a thread per four outputs; or, on Hopper where everything is bfloat16, one
// kernel that ends in the activation (kernels/tile_product.cu).
// Bytes moved: the matrix once, + per row D * 4 + 2 F * 8 + F * size.
#include "cuda/device/activate.cuh"
#include "cuda/device/convert.cuh"
#include "cuda/device/dependent.cuh"
#include "cuda/device/launch.h"
#include "cuda/product.h"

namespace bolide {
namespace {

constexpr int kThreads = 256;

// kWidth neighbouring outputs a thread.
template <class Out, int kWidth>
__global__ void __launch_bounds__(kThreads)
    gate_up_epilogue_kernel(const float* product, int64_t stride, const float* row_scale, const float* bias, GatedActivation activation,
                            Out* out, int32_t mlp, const int32_t* count) {
  const int row = blockIdx.y, i = (blockIdx.x * kThreads + threadIdx.x) * kWidth;
  let_next_start();
  const bool present = row < *count && i < mlp;  // known while the kernels in front still run
  wait_for_previous();
  if (!present) return;
  using Vector = Pack<float, kWidth>;
  const float scale = row_scale ? row_scale[row] : 1.0f;
  const Vector gates = *reinterpret_cast<const Vector*>(product + row * stride + i);
  const Vector ups = *reinterpret_cast<const Vector*>(product + row * stride + mlp + i);
  Pack<Out, kWidth> result;
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    const float gate = gates.v[j] * scale + (bias ? bias[i + j] : 0.0f), up = ups.v[j] * scale + (bias ? bias[mlp + i + j] : 0.0f);
    result.v[j] = from_float<Out>(activate(activation, gate) * up);
  }
  *reinterpret_cast<Pack<Out, kWidth>*>(out + static_cast<int64_t>(row) * mlp + i) = result;
}

}  // namespace

void cuda_norm_gate_up(CudaContext& context, const NormGateUpArgs& args, const PendingSum& pending) {
  const CudaSite site{"norm_gate_up", args.layer};
  const MatrixView weight = matrix_view(*args.gate_up);
  const Rows rows{context.capacity.tokens, &args.in->counts->tokens};
  require_contract(weight.rows == 2 * static_cast<int64_t>(args.mlp) && weight.columns == args.hidden, "the matrix is not [2 F, D]", site);
  if (norm_gemv_fits(context, weight, rows)) {
    norm_gemv_gated(context, {args.x, args.norm, args.norm_eps, nullptr}, weight, args.bias, args.activation, args.out, rows, site);
    return;
  }
  const Operand n = norm_operand(context, args.x, args.norm, args.norm_eps, args.hidden, weight, rows, nullptr, site, pending);
  if (args.out.dtype == DType::bf16 && tile_product_fits(context, n.dtype, weight, rows)) {
    tile_product_gated(context, n, weight, args.bias, args.activation, args.out.data, rows, site);
    return;
  }
  const int64_t stride = padded_columns(weight.rows);
  require_contract(static_cast<size_t>(rows.capacity) * stride * sizeof(float) <= context.scratch.product_bytes,
                   "reserve() was not called for this many rows", site);
  product(context, n, weight, context.scratch.product, stride, false, nullptr, rows, site);

  const int width = args.mlp % 4 == 0 ? 4 : 1;
  const dim3 grid((args.mlp / width + kThreads - 1) / kThreads, rows.capacity);
  with_activation_type(args.out.dtype, [&](auto tag) {
    using Out = typename decltype(tag)::type;
    const auto kernel = width == 4 ? gate_up_epilogue_kernel<Out, 4> : gate_up_epilogue_kernel<Out, 1>;
    launch_with({context.dependent_launch}, site, kernel, grid, dim3(kThreads), 0, context.stream, context.scratch.product, stride,
                n.row_scale, args.bias, args.activation, static_cast<Out*>(args.out.data), args.mlp, rows.count);
  });
}

}  // namespace bolide
