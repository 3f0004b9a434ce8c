// norm_qkv: n = rmsnorm(x) * norm; (q, k, v) = n * W^T + bias; q, k = rmsnorm per head (if given); RoPE on q and k; q to its buffer,
// K and V rounded once to the KV dtype and appended to their slots.
//
// Layouts: x [T, D] f32; W [Q + 2 KV, D], q rows, then k rows, then v rows; rope [T, Dh / 2, 2] (cosine, sine), element i of a head
// rotates with element i + Dh / 2; q [T, H, Dh]; K, V as kv_cache.h says, slot = chunk * C + offset.
// Preconditions: Dh even; 0 <= slot < chunks * C (a slot outside is reported as a fault and nothing is written).
// Few rows: the product with the norm inside (gemv.cu) into f32 scratch [T, Q + 2 KV]; many rows: norm_operand, then the product. Then
// the epilogue here, in which a warp makes one head of one row. Bytes moved: the matrix once, + per row D * 4 + (Q + 2 KV) * (8 + size).
#include "cuda/device/convert.cuh"
#include "cuda/device/fault.cuh"
#include "cuda/device/kv.cuh"
#include "cuda/device/launch.h"
#include "cuda/device/reduce.cuh"
#include "cuda/product.h"

namespace bolide {
namespace {

constexpr int kWarps = 4;
constexpr int kMaxPairs = 4;  // pairs a lane holds: Dh <= 256

struct EpilogueParameters {
  NormQkvArgs a;
  const float* product;  // [T, stride]
  int64_t stride;
  const float* row_scale;
  KvView kv;
  StepCounts* counts;
  const int32_t* slots;
  DeviceFault* fault;
};

// The head's pairs (i, i + Dh / 2), lane by lane: product * row scale + bias.
__device__ inline void load_head(const EpilogueParameters& p, int row, int head, int lane, float (&low)[kMaxPairs],
                                 float (&high)[kMaxPairs]) {
  const int half = p.a.head_dim / 2, column = head * p.a.head_dim;
  const float* from = p.product + row * p.stride + column;
  const float scale = p.row_scale ? p.row_scale[row] : 1.0f;
#pragma unroll
  for (int j = 0; j < kMaxPairs; ++j) {
    const int i = lane + 32 * j;
    if (i >= half) break;
    low[j] = from[i] * scale + (p.a.bias ? p.a.bias[column + i] : 0.0f);
    high[j] = from[i + half] * scale + (p.a.bias ? p.a.bias[column + i + half] : 0.0f);
  }
}

__device__ inline void normalise_head(const float* weight, float eps, int half, int lane, float (&low)[kMaxPairs],
                                      float (&high)[kMaxPairs]) {
  float squares = 0.0f;
#pragma unroll
  for (int j = 0; j < kMaxPairs; ++j) {
    if (lane + 32 * j < half) squares += low[j] * low[j] + high[j] * high[j];
  }
  const float rstd = rsqrtf(warp_sum(squares) / static_cast<float>(2 * half) + eps);
#pragma unroll
  for (int j = 0; j < kMaxPairs; ++j) {
    const int i = lane + 32 * j;
    if (i >= half) break;
    low[j] *= rstd * weight[i];
    high[j] *= rstd * weight[i + half];
  }
}

__device__ inline void rotate_head(const float* rope, int half, int lane, float (&low)[kMaxPairs], float (&high)[kMaxPairs]) {
#pragma unroll
  for (int j = 0; j < kMaxPairs; ++j) {
    const int i = lane + 32 * j;
    if (i >= half) break;
    const float cosine = rope[2 * i], sine = rope[2 * i + 1], a = low[j], b = high[j];
    low[j] = a * cosine - b * sine;
    high[j] = b * cosine + a * sine;
  }
}

template <class Out>
__device__ inline void store_head(Out* to, int half, int lane, const float (&low)[kMaxPairs], const float (&high)[kMaxPairs]) {
#pragma unroll
  for (int j = 0; j < kMaxPairs; ++j) {
    const int i = lane + 32 * j;
    if (i >= half) break;
    to[i] = from_float<Out>(low[j]);
    to[i + half] = from_float<Out>(high[j]);
  }
}

template <class Q, class KV>
__global__ void __launch_bounds__(kWarps * 32) qkv_epilogue_kernel(EpilogueParameters p) {
  const NormQkvArgs& a = p.a;
  const int row = blockIdx.x;
  if (row >= p.counts->tokens) return;
  const int lane = threadIdx.x & 31, head = blockIdx.y * kWarps + (threadIdx.x >> 5);
  if (head >= a.heads + 2 * a.kv_heads) return;
  const int half = a.head_dim / 2;
  const bool is_q = head < a.heads, is_v = head >= a.heads + a.kv_heads;

  const int32_t slot = p.slots[row];  // early, so that its latency is not added to the head's
  float low[kMaxPairs], high[kMaxPairs];
  load_head(p, row, head, lane, low, high);
  const float* norm = is_q ? a.q_norm : is_v ? nullptr : a.k_norm;
  if (norm) normalise_head(norm, a.norm_eps, half, lane, low, high);
  if (!is_v) rotate_head(a.rope + static_cast<int64_t>(row) * a.head_dim, half, lane, low, high);

  if (is_q) {
    store_head(static_cast<Q*>(a.q.data) + (static_cast<int64_t>(row) * a.heads + head) * a.head_dim, half, lane, low, high);
    return;
  }
  if (slot < 0 || slot >= static_cast<int64_t>(p.kv.chunks) * p.kv.chunk_tokens) {
    if (lane == 0) report_fault(p.fault, DeviceFault::bad_slot, row, slot);
    return;
  }
  const int kv_head = is_v ? head - a.heads - a.kv_heads : head - a.heads;
  store_head(kv_row<KV>(p.kv, a.layer, slot / p.kv.chunk_tokens, kv_head, is_v, slot % p.kv.chunk_tokens), half, lane, low, high);
}

}  // namespace

void cuda_norm_qkv(CudaContext& context, const NormQkvArgs& args) {
  const CudaSite site{"norm_qkv", args.layer};
  const MatrixView weight = matrix_view(*args.qkv);
  const Rows rows{context.capacity.tokens, &args.in->counts->tokens};
  require_contract(weight.rows == static_cast<int64_t>(args.heads + 2 * args.kv_heads) * args.head_dim && weight.columns == args.hidden,
                   "the matrix is not [Q + 2 KV, D]", site);
  const int64_t stride = padded_columns(weight.rows);
  require_contract(static_cast<size_t>(rows.capacity) * stride * sizeof(float) <= context.scratch.product_bytes,
                   "reserve() was not called for this many rows", site);

  const float* row_scale = nullptr;
  if (norm_gemv_fits(context, weight, rows)) {
    norm_gemv(context, {args.x, args.norm, args.norm_eps, nullptr}, weight, context.scratch.product, stride, rows, site);
  } else {
    const Operand n = norm_operand(context, args.x, args.norm, args.norm_eps, args.hidden, weight, rows, nullptr, site);
    product(context, n, weight, context.scratch.product, stride, false, nullptr, rows, site);
    row_scale = n.row_scale;
  }

  const EpilogueParameters p{args,         context.scratch.product, stride, row_scale, kv_view(*args.kv), args.in->counts, args.in->slots,
                             context.fault};
  const dim3 grid(rows.capacity, (args.heads + 2 * args.kv_heads + kWarps - 1) / kWarps);
  with_activation_type(args.q.dtype, [&](auto q_tag) {
    with_type(p.kv.dtype, [&](auto kv_tag) {
      launch(site, qkv_epilogue_kernel<typename decltype(q_tag)::type, typename decltype(kv_tag)::type>, grid, dim3(kWarps * 32), 0,
             context.stream, p);
    });
  });
}

}  // namespace bolide
