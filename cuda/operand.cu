// Left operands of products: RMSNorm of the residual stream, or an activation buffer, in the element type the product wants.
//
//   norm_operand        out[r] = x[g] * rsqrt(mean(x[g]^2) + eps) * norm, g = gather ? gather[r] : r
//   activation_operand  out[r] = h[r]
// Layouts: x [T, D] f32; h [T, K] bf16 or f32; out [rows, K padded to 8] bf16, f16 or f32, the padding zero.
// float16 has too few exponents for any activation, so a float16 row is divided by 2^e with its largest magnitude in
// [2^14, 2^15); row_scale[r] = 2^e.
// A block makes one row. Bytes moved: rows * K * (size in + size out); the second reading of x hits the cache.
#include "cuda/device/convert.cuh"
#include "cuda/device/dependent.cuh"
#include "cuda/device/launch.h"
#include "cuda/device/pending_sum.cuh"
#include "cuda/device/reduce.cuh"
#include "cuda/product.h"

namespace bolide {
namespace {

constexpr int kThreads = 256;

template <class In>
struct OperandParameters {
  const In* in;
  int64_t in_stride;
  const float* norm;  // null: no norm
  float eps;
  int32_t columns;
  int64_t out_stride;
  float* row_scale;
  const int32_t* count;
  const int32_t* gather;
  PendingSum pending;
};

// 2^e with magnitude / 2^e in [2^14, 2^15); 1 for zero, infinity and NaN.
__device__ float half_row_scale(float magnitude) {
  if (!(magnitude > 0.0f) || isinf(magnitude)) return 1.0f;
  return ldexpf(1.0f, ilogbf(magnitude) - 14);
}

template <class In, class Out>
__global__ void __launch_bounds__(kThreads) operand_kernel(OperandParameters<In> p, Out* out) {
  const int row = blockIdx.x;
  let_next_start();
  const bool present = row < *p.count;  // known while the kernels in front still run
  wait_for_previous();
  if (!present) return;
  const In* in = p.in + (p.gather ? p.gather[row] : row) * p.in_stride;
  out += row * p.out_stride;

  float rstd = 1.0f;
  if (p.norm) {
    float squares = 0.0f;
    for (int i = threadIdx.x; i < p.columns; i += kThreads) {
      const float v = to_float(in[i]);
      squares += v * v;
    }
    rstd = rsqrtf(block_sum(squares) / static_cast<float>(p.columns) + p.eps);
  }
  const auto value = [&](int i) {
    const float v = to_float(in[i]);
    return p.norm ? v * rstd * p.norm[i] : v;
  };
  float inverse_scale = 1.0f;
  if constexpr (std::is_same_v<Out, __half>) {
    float magnitude = 0.0f;
    for (int i = threadIdx.x; i < p.columns; i += kThreads) magnitude = fmaxf(magnitude, fabsf(value(i)));
    const float scale = half_row_scale(block_max(magnitude));
    if (threadIdx.x == 0) p.row_scale[row] = scale;
    inverse_scale = 1.0f / scale;
  }
  for (int i = threadIdx.x; i < p.out_stride; i += kThreads) out[i] = from_float<Out>(i < p.columns ? value(i) * inverse_scale : 0.0f);
}

// The same for norms of float32 rows of at most kThreads * 4 * kHeld elements, which are held while their squares are added.
constexpr int kHeld = 4;
template <class Out>
__global__ void __launch_bounds__(kThreads) short_norm_kernel(OperandParameters<float> p, Out* out) {
  using Vector = Pack<float, 4>;
  const int row = blockIdx.x;
  let_next_start();
  const bool present = row < *p.count;  // known while the kernels in front still run
  Vector norm[kHeld], x[kHeld];
#pragma unroll
  for (int j = 0; j < kHeld; ++j) {
    const int i = (j * kThreads + threadIdx.x) * 4;
    if (i < p.columns) norm[j] = *reinterpret_cast<const Vector*>(p.norm + i);
  }
  wait_for_previous();
  if (!present) return;
  const float* in = p.in + (p.gather ? p.gather[row] : row) * p.in_stride;
  float squares = 0.0f;
#pragma unroll
  for (int j = 0; j < kHeld; ++j) {
    const int i = (j * kThreads + threadIdx.x) * 4;
    if (i >= p.columns) break;
    x[j] = *reinterpret_cast<const Vector*>(in + i);
    if (p.pending.parts) settle(x[j], p.pending, row, i);
#pragma unroll
    for (int e = 0; e < 4; ++e) squares += x[j].v[e] * x[j].v[e];
  }
  const float rstd = rsqrtf(block_sum(squares) / static_cast<float>(p.columns) + p.eps);
#pragma unroll
  for (int j = 0; j < kHeld; ++j) {
    const int i = (j * kThreads + threadIdx.x) * 4;
    if (i >= p.columns) break;
    Pack<Out, 4> result;
#pragma unroll
    for (int e = 0; e < 4; ++e) result.v[e] = from_float<Out>(x[j].v[e] * rstd * norm[j].v[e]);
    *reinterpret_cast<Pack<Out, 4>*>(out + row * p.out_stride + i) = result;
  }
}

bool is_short_norm(int64_t columns, DType operand) {
  return operand != DType::f16 && columns % kRowPad == 0 && columns <= kThreads * 4 * kHeld;
}

template <class In>
Operand make_operand(CudaContext& context, OperandParameters<In> p, DType dtype, const Rows& rows, const CudaSite& site) {
  p.out_stride = padded_columns(p.columns);
  p.row_scale = context.scratch.row_scale;
  p.count = rows.count;
  require_contract(static_cast<size_t>(rows.capacity) * p.out_stride * dtype_size(dtype) <= context.scratch.operand_bytes,
                   "reserve() was not called for this many rows", site);
  with_type(dtype, [&](auto tag) {
    using Out = typename decltype(tag)::type;
    if constexpr (std::is_same_v<In, float> && !std::is_same_v<Out, __half>) {
      if (p.norm && is_short_norm(p.columns, dtype)) {
        launch_with({context.dependent_launch}, site, short_norm_kernel<Out>, dim3(rows.capacity), dim3(kThreads), 0, context.stream, p,
                    static_cast<Out*>(context.scratch.operand));
        return;
      }
    }
    require_contract(!p.pending.parts, "this norm adds nothing to the residual stream", site);
    launch_with({context.dependent_launch}, site, operand_kernel<In, Out>, dim3(rows.capacity), dim3(kThreads), 0, context.stream, p,
                static_cast<Out*>(context.scratch.operand));
  });
  return {context.scratch.operand, dtype, p.out_stride, dtype == DType::f16 ? context.scratch.row_scale : nullptr};
}

template <class W>
__global__ void __launch_bounds__(kThreads) widen_kernel(const W* from, float* to, int64_t elements) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kRowPad;
  if (i >= elements) return;
  const Pack<W, kRowPad> pack = *reinterpret_cast<const Pack<W, kRowPad>*>(from + i);
  Pack<float, kRowPad> wide;
#pragma unroll
  for (int j = 0; j < kRowPad; ++j) wide.v[j] = to_float(pack.v[j]);
  *reinterpret_cast<Pack<float, kRowPad>*>(to + i) = wide;
}

}  // namespace

DType operand_dtype(DType activations, DType weight, bool few) {
  if (activations == DType::f32 || weight == DType::f32) return DType::f32;
  return weight == DType::f16 && few ? DType::f32 : weight;
}

bool few_rows(const Rows& rows) { return rows.capacity <= kFewRows; }

Operand norm_operand(CudaContext& context, const float* x, const float* norm, float eps, int64_t columns, const MatrixView& weight,
                     const Rows& rows, const int32_t* gather, const CudaSite& site, const PendingSum& pending) {
  OperandParameters<float> p = {};
  p.in = x;
  p.in_stride = columns;
  p.norm = norm;
  p.eps = eps;
  p.columns = static_cast<int32_t>(columns);
  p.gather = gather;
  p.pending = pending;
  return make_operand(context, p, operand_dtype(context.activations, weight.dtype, few_rows(rows)), rows, site);
}

bool norm_settles(const CudaContext& context, int64_t columns, const MatrixView& weight, const Rows& rows) {
  return is_short_norm(columns, operand_dtype(context.activations, weight.dtype, few_rows(rows)));
}

Operand activation_operand(CudaContext& context, const ActivationBuffer& h, const MatrixView& weight, const Rows& rows,
                           const CudaSite& site) {
  const DType wanted = operand_dtype(context.activations, weight.dtype, few_rows(rows));
  const bool aligned = weight.columns == weight.stride && reinterpret_cast<uintptr_t>(h.data) % 16 == 0;
  if (wanted == h.dtype && aligned) return {h.data, h.dtype, weight.columns, nullptr};
  Operand result = {};
  with_activation_type(h.dtype, [&](auto tag) {
    using In = typename decltype(tag)::type;
    OperandParameters<In> p = {};
    p.in = static_cast<const In*>(h.data);
    p.in_stride = weight.columns;
    p.columns = static_cast<int32_t>(weight.columns);
    result = make_operand(context, p, wanted, rows, site);
  });
  return result;
}

void widen_rows(CudaContext& context, const void* from, DType dtype, float* to, int64_t elements, const CudaSite& site) {
  require_contract(elements % kRowPad == 0, "rows are not padded", site);
  const auto blocks = static_cast<unsigned>((elements / kRowPad + kThreads - 1) / kThreads);
  with_type(dtype, [&](auto tag) {
    using W = typename decltype(tag)::type;
    launch(site, widen_kernel<W>, dim3(blocks), dim3(kThreads), 0, context.stream, static_cast<const W*>(from), to, elements);
  });
}

}  // namespace bolide
