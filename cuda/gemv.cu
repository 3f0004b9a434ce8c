// Products with few rows, bound by reading the weights: out[m, n] (+)= sum over k of x[m, k] * w[n, k] (+ bias[n]); with x given, or
// x = rmsnorm of the residual stream made by each block for itself; with the outputs stored, added, or paired through a gated
// activation: out[m, f] = activation(sum f + bias f) * (sum F + f + bias F + f).
// On Hopper, weights of the activations' type (bfloat16, float32) take kernels/row_product.cu instead; this file decides.
//
// Layouts: w [N, K padded] bf16, f16 or f32; x [M, K padded] bf16 or f32; out [M, >= N] f32, or [M, F] bf16 or f32 when gated.
// Preconditions: rows of w and x start at multiples of 16 bytes and are padded with zeros to multiples of 8 elements.
// A warp makes kWarpRows outputs (neighbours, or a gate and its up) at a time for up to 8 rows of x: each lane takes 8 elements of k at
// a time, the loads of kUnroll such steps are issued before the first is used, and the lanes' sums are added at the end. A block's
// first weights are in flight, past L1, before it looks at anything else and while it brings x, or makes its norm, into shared memory
// (x that does not fit is read from global memory). The grid is what fits on the device at once; warps take further outputs in turn.
// More than 8 rows of x: one grid row per 8, the weights coming from L2 after the first.
// Bytes moved: N * K * size(w), + M * (K * size(x) + N * 4); with the norm, M * K * 4 from L2 for each block.
#include <algorithm>

#include "cuda/device/activate.cuh"
#include "cuda/device/convert.cuh"
#include "cuda/device/launch.h"
#include "cuda/device/reduce.cuh"
#include "cuda/product.h"

namespace bolide {
namespace {

constexpr int kWarps = 8;
constexpr int kStep = 32 * 8;                  // elements of k that a warp takes in one step
constexpr size_t kMaxStagedBytes = 96 * 1024;  // of x in shared memory

template <class X>
struct GemvParameters {
  const X* x;
  int64_t x_stride;
  bool staged;      // x goes through shared memory
  NormRows norm;    // norm.x not null: x is made from it, staged
  int32_t columns;  // of norm.x
  const void* w;
  int64_t w_stride;
  float* out;
  int64_t out_stride;
  const float* bias;
  bool accumulate;
  int32_t n, k;  // outputs (gated: F), and k padded
  const int32_t* count;
  ActivationBuffer gated;
  GatedActivation activation;
};

__device__ inline uint4 load_streaming(const void* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}

template <class W>
__device__ inline Pack<W, 8> load_weights(const W* p) {
  Pack<W, 8> pack;
  uint4* words = reinterpret_cast<uint4*>(&pack);
  words[0] = load_streaming(p);
  if constexpr (sizeof(W) == 4) words[1] = load_streaming(p + 4);
  return pack;
}

// Normed rows first_row .. into `to` [kRows][k]. Warps share out the rows; those that share a row each sum all its squares, in the
// same order, and write a part of it.
template <class X, int kRows>
__device__ void make_norm(const GemvParameters<X>& p, int first_row, int rows, X* to) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, m = warp % kRows, part = warp / kRows;
  constexpr int kParts = kWarps / kRows;
  const int row = min(first_row + m, rows - 1);
  const float* x = p.norm.x + static_cast<int64_t>(p.norm.gather ? p.norm.gather[row] : row) * p.columns;
  float squares = 0.0f;
  if (p.columns % 4 == 0) {
#pragma unroll 8
    for (int i = lane * 4; i < p.columns; i += 128) {
      const float4 v = *reinterpret_cast<const float4*>(x + i);
      squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    }
  } else {
    for (int i = lane; i < p.columns; i += 32) squares += x[i] * x[i];
  }
  // The weights of the warp's first columns come from memory while the squares are summed.
  constexpr int kAhead = 4;
  float weight[kAhead];
#pragma unroll
  for (int j = 0; j < kAhead; ++j) {
    const int i = (j * kParts + part) * 32 + lane;
    weight[j] = i < p.columns ? p.norm.norm[i] : 0.0f;
  }
  const float rstd = rsqrtf(warp_sum(squares) / static_cast<float>(p.columns) + p.norm.eps);
  const auto put = [&](int i, float w) { to[m * p.k + i] = from_float<X>(i < p.columns ? x[i] * rstd * w : 0.0f); };
#pragma unroll
  for (int j = 0; j < kAhead; ++j) {
    const int i = (j * kParts + part) * 32 + lane;
    if (i < p.k) put(i, weight[j]);
  }
  for (int i = (kAhead * kParts + part) * 32 + lane; i < p.k; i += kParts * 32) put(i, i < p.columns ? p.norm.norm[i] : 0.0f);
}

// Rows first_row .. of p.x into `to` [kRows][k], 16 bytes a thread and turn.
template <class X, int kRows>
__device__ void stage_rows(const GemvParameters<X>& p, int first_row, int rows, X* to) {
  constexpr int kElements = 16 / sizeof(X);
  const int per_row = p.k / kElements;
#pragma unroll 4
  for (int i = threadIdx.x; i < kRows * per_row; i += kWarps * 32) {
    const int m = i / per_row, column = (i - m * per_row) * kElements;
    *reinterpret_cast<uint4*>(to + m * p.k + column) =
        *reinterpret_cast<const uint4*>(p.x + min(first_row + m, rows - 1) * p.x_stride + column);
  }
}

template <class X>
__device__ inline void store_plain(const GemvParameters<X>& p, int row, int n, float value) {
  float* out = p.out + row * p.out_stride + n;
  if (p.bias) value += p.bias[n];
  *out = p.accumulate ? *out + value : value;
}

template <class X>
__device__ inline void store_gated(const GemvParameters<X>& p, int row, int n, float gate, float up) {
  if (p.bias) gate += p.bias[n], up += p.bias[p.n + n];
  const float value = activate(p.activation, gate) * up;
  const int64_t at = static_cast<int64_t>(row) * p.n + n;
  if (p.gated.dtype == DType::bf16)
    static_cast<__nv_bfloat16*>(p.gated.data)[at] = from_float<__nv_bfloat16>(value);
  else
    static_cast<float*>(p.gated.data)[at] = value;
}

template <class W, class X, int kRows, int kWarpRows, int kUnroll, bool kGated, int kMinBlocks>
__global__ void __launch_bounds__(kWarps * 32, kMinBlocks) gemv_kernel(GemvParameters<X> p) {
  extern __shared__ uint4 shared[];
  const int first_row = blockIdx.y * kRows, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  constexpr int kOutputs = kGated ? 1 : kWarpRows;
  const int stride = gridDim.x * kWarps * kOutputs;
  int first_n = (blockIdx.x * kWarps + warp) * kOutputs;

  Pack<W, 8> weights[kUnroll][kWarpRows];
  const auto load_steps = [&](int at, int base) {
#pragma unroll
    for (int i = 0; i < kWarpRows; ++i) {
      // Past the last output the last one is read again: its sum is not stored.
      const int n = kGated ? min(at, p.n - 1) + i * p.n : min(at + i, p.n - 1);
      const W* w = static_cast<const W*>(p.w) + n * p.w_stride + base;
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        if (base + u * kStep < p.k) weights[u][i] = load_weights(w + u * kStep);
      }
    }
  };
  load_steps(first_n, lane * 8);

  const int rows = *p.count;
  if (first_row >= rows) return;
  X* staged = reinterpret_cast<X*>(shared);
  if (p.norm.x)
    make_norm<X, kRows>(p, first_row, rows, staged);
  else if (p.staged)
    stage_rows<X, kRows>(p, first_row, rows, staged);
  __syncthreads();
  const X* x[kRows];  // past the last row the last one is read again
#pragma unroll
  for (int m = 0; m < kRows; ++m) x[m] = p.staged ? staged + m * p.k : p.x + min(first_row + m, rows - 1) * p.x_stride;

  while (first_n < p.n) {
    const int next_n = first_n + stride;
    float sum[kWarpRows][kRows] = {};
    for (int base = lane * 8; base < p.k;) {
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        if (base + u * kStep >= p.k) continue;
#pragma unroll
        for (int m = 0; m < kRows; ++m) {
          const Pack<X, 8> values = *reinterpret_cast<const Pack<X, 8>*>(x[m] + base + u * kStep);
#pragma unroll
          for (int i = 0; i < kWarpRows; ++i) {
#pragma unroll
            for (int j = 0; j < 8; ++j) sum[i][m] = fmaf(to_float(weights[u][i].v[j]), to_float(values.v[j]), sum[i][m]);
          }
        }
      }
      base += kStep * kUnroll;
      if (base < p.k) load_steps(first_n, base);
    }
    // The next output's weights travel while this one's lanes are added.
    if (next_n < p.n) load_steps(next_n, lane * 8);
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      float value[kWarpRows];
#pragma unroll
      for (int i = 0; i < kWarpRows; ++i) value[i] = warp_sum(sum[i][m]);
      if (lane != 0 || first_row + m >= rows) continue;
      if constexpr (kGated) {
        store_gated(p, first_row + m, first_n, value[0], value[1]);
      } else {
#pragma unroll
        for (int i = 0; i < kWarpRows; ++i) {
          if (first_n + i < p.n) store_plain(p, first_row + m, first_n + i, value[i]);
        }
      }
    }
    first_n = next_n;
  }
}

template <class W, class X, int kRows>
void launch_gemv(CudaContext& context, GemvParameters<X> p, const Rows& rows, const CudaSite& site) {
  constexpr int kGatedBlocks = kRows <= 2 ? 3 : 2;
  // kLoads: 16-byte-wide steps in flight per lane. Blocks per multiprocessor: where there are outputs enough, fewer loads and registers
  // a warp let more blocks be resident, so that the latencies at one block's start and end overlap the others' work.
  constexpr int kLoads = sizeof(W) == 4 ? 4 : 8, kMany = kRows == 1 ? 4 : kRows == 2 ? 3 : 2, kPairs = kRows <= 4 ? 2 : 1;
  const auto groups = static_cast<unsigned>((rows.capacity + kRows - 1) / kRows);
  const size_t wanted = static_cast<size_t>(kRows) * p.k * sizeof(X);
  p.staged = p.norm.x || wanted <= kMaxStagedBytes;
  const size_t shared = p.staged ? wanted : 0;
  // No more blocks than are resident at once: a block then takes further outputs without bringing x again.
  const auto run = [&](auto kernel, int outputs, int resident) {
    const int blocks = (p.n + kWarps * outputs - 1) / (kWarps * outputs);
    const dim3 grid(std::min(blocks, context.multiprocessors * resident), groups);
    launch(site, kernel, grid, dim3(kWarps * 32), shared, context.stream, p);
  };
  if (p.gated.data) return run(gemv_kernel<W, X, kRows, 2, kLoads / 4, true, kGatedBlocks>, 1, kGatedBlocks);
  // Two outputs a warp halve the reading of x; with few outputs more warps matter more.
  const int full = context.multiprocessors * kWarps;  // outputs with one block a multiprocessor
  if (p.n >= 8 * full) return run(gemv_kernel<W, X, kRows, 2, kLoads / 2, false, kPairs>, 2, kPairs);
  if (p.n >= 2 * full) return run(gemv_kernel<W, X, kRows, 1, kLoads / 2, false, kMany>, 1, kMany);
  run(gemv_kernel<W, X, kRows, 1, kLoads, false, 1>, 1, 2);
}

template <class W, class X>
void launch_rows(CudaContext& context, const GemvParameters<X>& p, const Rows& rows, const CudaSite& site) {
  if (rows.capacity <= 1) return launch_gemv<W, X, 1>(context, p, rows, site);
  if (rows.capacity <= 2) return launch_gemv<W, X, 2>(context, p, rows, site);
  if (rows.capacity <= 4) return launch_gemv<W, X, 4>(context, p, rows, site);
  launch_gemv<W, X, 8>(context, p, rows, site);
}

template <class X>
GemvParameters<X> parameters(const MatrixView& weight, const Rows& rows) {
  GemvParameters<X> p = {};
  p.w = weight.data;
  p.w_stride = weight.stride;
  p.n = static_cast<int32_t>(weight.rows);
  p.k = static_cast<int32_t>(weight.stride);
  p.columns = static_cast<int32_t>(weight.columns);
  p.count = rows.count;
  return p;
}

// Calls f(TypeTag<W>, TypeTag<X>) with the types of a supported pair.
template <class F>
void with_pair(DType weight, DType operand, const CudaSite& site, F&& f) {
  using Bf16 = TypeTag<__nv_bfloat16>;
  using F16 = TypeTag<__half>;
  if (weight == DType::bf16 && operand == DType::bf16) return f(Bf16{}, Bf16{});
  if (weight == DType::f16 && operand == DType::f16) return f(F16{}, F16{});
  require_contract(operand == DType::f32, "no product for these dtypes", site);
  with_type(weight, [&](auto w) { f(w, TypeTag<float>{}); });
}

}  // namespace

void gemv(CudaContext& context, const Operand& x, const MatrixView& weight, float* out, int64_t out_stride, bool accumulate,
          const float* bias, const Rows& rows, const CudaSite& site) {
  require_contract(x.stride == weight.stride, "the operand's width is not the matrix's", site);
  if (x.dtype == weight.dtype && row_product_fits(context, weight, rows)) {
    RowProduct product{};
    product.h = x.data;
    product.h_stride = x.stride;
    product.bias = bias;
    product.out = out;
    product.out_stride = out_stride;
    product.accumulate = accumulate;
    return row_product(context, product, weight, rows, site);
  }
  with_pair(weight.dtype, x.dtype, site, [&](auto w_tag, auto x_tag) {
    using X = typename decltype(x_tag)::type;
    GemvParameters<X> p = parameters<X>(weight, rows);
    p.x = static_cast<const X*>(x.data);
    p.x_stride = x.stride;
    p.out = out;
    p.out_stride = out_stride;
    p.accumulate = accumulate;
    p.bias = bias;
    launch_rows<typename decltype(w_tag)::type>(context, p, rows, site);
  });
}

bool norm_gemv_fits(const CudaContext& context, const MatrixView& weight, const Rows& rows) {
  const size_t element = dtype_size(operand_dtype(context.activations, weight.dtype, true));
  if (row_product_fits(context, weight, rows)) return true;
  return few_rows(rows) && kFewRows * static_cast<size_t>(weight.stride) * element <= kMaxStagedBytes;
}

void norm_gemv(CudaContext& context, const NormRows& n, const MatrixView& weight, float* out, int64_t out_stride, const Rows& rows,
               const CudaSite& site) {
  if (row_product_fits(context, weight, rows)) {
    RowProduct product{};
    product.norm = n;
    product.out = out;
    product.out_stride = out_stride;
    return row_product(context, product, weight, rows, site);
  }
  with_pair(weight.dtype, operand_dtype(context.activations, weight.dtype, true), site, [&](auto w_tag, auto x_tag) {
    auto p = parameters<typename decltype(x_tag)::type>(weight, rows);
    p.norm = n;
    p.out = out;
    p.out_stride = out_stride;
    launch_rows<typename decltype(w_tag)::type>(context, p, rows, site);
  });
}

void norm_gemv_gated(CudaContext& context, const NormRows& n, const MatrixView& weight, const float* bias, GatedActivation activation,
                     const ActivationBuffer& out, const Rows& rows, const CudaSite& site) {
  if (row_product_fits(context, weight, rows) && out.dtype == weight.dtype) {
    RowProduct product{};
    product.norm = n;
    product.bias = bias;
    product.gated = out.data;
    product.activation = activation;
    return row_product(context, product, weight, rows, site);
  }
  with_pair(weight.dtype, operand_dtype(context.activations, weight.dtype, true), site, [&](auto w_tag, auto x_tag) {
    auto p = parameters<typename decltype(x_tag)::type>(weight, rows);
    p.norm = n;
    p.n /= 2;
    p.bias = bias;
    p.activation = activation;
    p.gated = out;
    launch_rows<typename decltype(w_tag)::type>(context, p, rows, site);
  });
}

}  // namespace bolide
