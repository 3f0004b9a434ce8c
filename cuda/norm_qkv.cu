// norm_qkv: n = rmsnorm(x) * norm; (q, k, v) = n * W^T + bias; q, k = rmsnorm per head (if given); RoPE on q and k; q to its buffer,
// K and V rounded once to the KV dtype and appended to their slots.
//
// Layouts: x [T, D] f32; W [Q + 2 KV, D], q rows, then k rows, then v rows; rope [T, Dh / 2, 2] (cosine, sine), element i of a head
// rotates with element i + Dh / 2; q [T, H, Dh]; K, V as kv_cache.h says, slot = chunk * C + offset.
// Preconditions: Dh even; 0 <= slot < chunks * C (a slot outside is reported as a fault and nothing is written).
// Few rows: the product with the norm inside (gemv.cu) into f32 scratch [T, Q + 2 KV]; many rows: norm_operand, then the product. Then
// the epilogue here, in which a warp makes one head of one row; a whole step of few rows leaves that to the attention kernel (step.cpp).
// Many rows on Hopper where everything is bfloat16: norm_operand, then one kernel that ends in the heads (kernels/tile_heads.cu).
// Bytes moved: the matrix once, + per row D * 4 + (Q + 2 KV) * (8 + size).
#include "cuda/device/convert.cuh"
#include "cuda/device/dependent.cuh"
#include "cuda/device/fault.cuh"
#include "cuda/device/head.cuh"
#include "cuda/device/kv.cuh"
#include "cuda/device/launch.h"
#include "cuda/product.h"

namespace bolide {
namespace {

constexpr int kWarps = 4;
struct EpilogueParameters {
  QkvProduct product;
  ActivationBuffer q;
  KvView kv;
  int32_t layer;
  StepCounts* counts;
  const int32_t* slots;
  DeviceFault* fault;
};

template <class Q, class KV>
__global__ void __launch_bounds__(kWarps * 32) qkv_epilogue_kernel(EpilogueParameters p) {
  const QkvProduct& a = p.product;
  const int row = blockIdx.x;
  let_next_start();
  const int lane = threadIdx.x & 31, head = blockIdx.y * kWarps + (threadIdx.x >> 5);
  const int32_t slot = p.slots[row];  // early, so that its latency is not added to the head's
  const bool present = row < p.counts->tokens && head < a.heads + 2 * a.kv_heads;
  wait_for_previous();
  if (!present) return;
  const int half = a.head_dim / 2;
  const bool is_q = head < a.heads, is_v = head >= a.heads + a.kv_heads;

  HeadPairs<> pairs;
  pairs.make(a, row, head, lane);
  if (is_q) {
    pairs.store(static_cast<Q*>(p.q.data) + (static_cast<int64_t>(row) * a.heads + head) * a.head_dim, half, lane);
    return;
  }
  if (slot < 0 || slot >= static_cast<int64_t>(p.kv.chunks) * p.kv.chunk_tokens) {
    if (lane == 0) report_fault(p.fault, DeviceFault::bad_slot, row, slot);
    return;
  }
  const int kv_head = is_v ? head - a.heads - a.kv_heads : head - a.heads;
  pairs.store(kv_row<KV>(p.kv, p.layer, slot / p.kv.chunk_tokens, kv_head, is_v, slot % p.kv.chunk_tokens), half, lane);
}

struct QkvInputs {
  MatrixView weight;
  Rows rows;
};
QkvInputs checked_inputs(const CudaContext& context, const NormQkvArgs& args, const CudaSite& site) {
  const MatrixView weight = matrix_view(*args.qkv);
  require_contract(weight.rows == static_cast<int64_t>(args.heads + 2 * args.kv_heads) * args.head_dim && weight.columns == args.hidden,
                   "the matrix is not [Q + 2 KV, D]", site);
  return {weight, {context.capacity.tokens, &args.in->counts->tokens}};
}

QkvProduct described(const NormQkvArgs& args) {
  return {nullptr, 0, nullptr, args.bias, args.q_norm, args.k_norm, args.rope, args.norm_eps, args.heads, args.kv_heads, args.head_dim};
}

// normed: the operand of many rows; null for few, which the product norms itself.
QkvProduct multiply_into_scratch(CudaContext& context, const NormQkvArgs& args, const QkvInputs& in, const Operand* normed,
                                 const CudaSite& site) {
  QkvProduct result = described(args);
  result.product = context.scratch.product;
  result.stride = padded_columns(in.weight.rows);
  require_contract(static_cast<size_t>(in.rows.capacity) * result.stride * sizeof(float) <= context.scratch.product_bytes,
                   "reserve() was not called for this many rows", site);
  if (normed) {
    product(context, *normed, in.weight, context.scratch.product, result.stride, false, nullptr, in.rows, site);
    result.row_scale = normed->row_scale;
  } else {
    norm_gemv(context, {args.x, args.norm, args.norm_eps, nullptr}, in.weight, context.scratch.product, result.stride, in.rows, site);
  }
  return result;
}

Operand normed_rows(CudaContext& context, const NormQkvArgs& args, const QkvInputs& in, const PendingSum& pending, const CudaSite& site) {
  return norm_operand(context, args.x, args.norm, args.norm_eps, args.hidden, in.weight, in.rows, nullptr, site, pending);
}

void make_heads(CudaContext& context, const NormQkvArgs& args, const QkvProduct& product, const CudaSite& site) {
  const EpilogueParameters p{product, args.q, kv_view(*args.kv), args.layer, args.in->counts, args.in->slots, context.fault};
  const dim3 grid(context.capacity.tokens, (args.heads + 2 * args.kv_heads + kWarps - 1) / kWarps);
  with_activation_type(args.q.dtype, [&](auto q_tag) {
    with_kv_type(p.kv.dtype, [&](auto kv_tag) {
      launch_with({context.dependent_launch}, site, qkv_epilogue_kernel<typename decltype(q_tag)::type, typename decltype(kv_tag)::type>,
                  grid, dim3(kWarps * 32), 0, context.stream, p);
    });
  });
}

}  // namespace

QkvProduct cuda_qkv_product(CudaContext& context, const NormQkvArgs& args) {
  const CudaSite site{"norm_qkv", args.layer};
  const QkvInputs in = checked_inputs(context, args, site);
  if (norm_gemv_fits(context, in.weight, in.rows)) return multiply_into_scratch(context, args, in, nullptr, site);
  const Operand n = normed_rows(context, args, in, {}, site);
  return multiply_into_scratch(context, args, in, &n, site);
}

void cuda_norm_qkv(CudaContext& context, const NormQkvArgs& args, const PendingSum& pending) {
  const CudaSite site{"norm_qkv", args.layer};
  const QkvInputs in = checked_inputs(context, args, site);
  if (norm_gemv_fits(context, in.weight, in.rows))
    return make_heads(context, args, multiply_into_scratch(context, args, in, nullptr, site), site);
  const Operand n = normed_rows(context, args, in, pending, site);
  const TileHeads heads{described(args), args.q.data, kv_view(*args.kv), args.layer, args.in->slots};
  if (args.q.dtype == DType::bf16 && tile_heads_fit(context, n.dtype, in.weight, in.rows, heads))
    return tile_product_heads(context, n, in.weight, heads, in.rows, site);
  make_heads(context, args, multiply_into_scratch(context, args, in, &n, site), site);
}

}  // namespace bolide
