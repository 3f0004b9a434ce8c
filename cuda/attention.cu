// attention: out[t, h] = softmax(scale * q[t, h] . K) V over the row's own sequence, causal; head h reads kv head h / (H / Hkv);
// window > 0: only the last `window` positions, the row's own included.
//
// Layouts: q, out [T, H, Dh] bf16 or f32; K, V as kv_cache.h says; position p of sequence s lies in chunk
// chunk_ids[chunk_offsets[s] + p / C] at offset p % C.
// Preconditions: Dh even, at most 256; H a multiple of Hkv; K and V of every visible position are in the cache.
//
// Kernels, each taking the rows it suits: kernels/attention_decode.cu splits one row's KV length over blocks and is bound by reading
// K and V once per head group; kernels/attention_wgmma.cu (bfloat16, Hopper's tensor cores; e4m3 K and V that kernels/attention_widen.cu
// has widened), kernels/attention_mma.cu (bfloat16, any tensor cores) and kernels/attention_prefill.cu (anything, float32) reuse a tile of
// K and V for a tile of rows. Steps of few rows launch the first alone; longer ones launch it, or kernels/attention_many.cu (Hopper,
// bfloat16 activations), for the sequences with a single row and one of the others for the rest.
#include <algorithm>

#include "cuda/attention.h"
#include "cuda/halves.h"

namespace bolide {
namespace {

constexpr int kMaxSplits = 64;

int log2_or_minus_one(int32_t v) {
  int shift = 0;
  while ((int64_t{1} << shift) < v) ++shift;
  return (int64_t{1} << shift) == v ? shift : -1;
}

}  // namespace

namespace {

// Splits of each of `units` for two blocks a multiprocessor.
int32_t spread(int multiprocessors, int64_t units) {
  return static_cast<int32_t>(std::clamp<int64_t>((2 * multiprocessors + units - 1) / std::max<int64_t>(units, 1), 1, kMaxSplits));
}

}  // namespace

// One block a multiprocessor: beside the products' blocks there is no room for more, and blocks without work would wait for it.
int row_splits(int multiprocessors, int32_t rows, int32_t kv_heads) {
  return static_cast<int>(std::clamp<int64_t>(multiprocessors / (int64_t{rows} * kv_heads), 1, kMaxSplits));
}

SplitPlan split_plan(int multiprocessors, int32_t rows, int32_t heads, int32_t kv_heads) {
  const int group = heads / kv_heads;
  SplitPlan plan{};
  plan.block_heads = group >= 3 ? 4 : group;
  plan.head_groups = (group + plan.block_heads - 1) / plan.block_heads;
  const int64_t units = static_cast<int64_t>(rows) * kv_heads * plan.head_groups;
  plan.splits = spread(multiprocessors, units);
  return plan;
}

AttentionScratch attention_scratch(int multiprocessors, int32_t rows, int32_t heads, int32_t kv_heads, int32_t head_dim) {
  const SplitPlan plan = split_plan(multiprocessors, rows, heads, kv_heads);
  const size_t units = static_cast<size_t>(rows) * kv_heads * plan.head_groups;
  // units * splits is at most this for any smaller number of rows too.
  const size_t blocks = units + 2 * static_cast<size_t>(multiprocessors);
  const size_t row_blocks = static_cast<size_t>(rows) * kv_heads + 2 * static_cast<size_t>(multiprocessors);
  const size_t records = std::max(blocks * plan.block_heads, row_blocks * (heads / kv_heads));
  const size_t arrivals = std::max(units, shared_by_halves(static_cast<size_t>(multiprocessors))) + kAttentionCounters;
  // attention_many's twice: the halves of a step share it out.
  const size_t parts = attention_many_scratch(multiprocessors, heads, kv_heads, head_dim);
  return {std::max(records * (head_dim + 2) * sizeof(float), shared_by_halves(parts)), arrivals * sizeof(int32_t)};
}

namespace {

AttentionParameters parameters(const AttentionArgs& args) {
  AttentionParameters p{};
  p.q = args.q.data;
  p.out = args.out.data;
  p.activations = args.q.dtype;
  p.kv = kv_view(*args.kv);
  p.in = *args.in;
  p.scale_log2 = args.scale * 1.4426950408889634f;
  p.window = args.window;
  p.layer = args.layer;
  p.heads = args.heads;
  p.kv_heads = args.kv_heads;
  p.head_dim = args.head_dim;
  p.chunk_shift = log2_or_minus_one(p.kv.chunk_tokens);
  return p;
}

void attend_rows(CudaContext& context, const AttentionParameters& p, int32_t rows, bool single_rows, const FreshRows& fresh,
                 const CudaSite& site) {
  if (attention_rows_fits(p)) return attention_rows(context, p, rows, single_rows, fresh, site);
  require_contract(fresh.product.product == nullptr, "attention_takes_product() was not asked", site);
  attention_decode(context, p, rows, single_rows, site);
}

// Sequences with at least two rows.
void attend_tiles(CudaContext& context, const AttentionParameters& p, const CudaSite& site) {
  if (attention_wgmma_fits(context, p)) return attention_wgmma(context, p, site);
  const AttentionParameters wide = attention_widened(context, p);
  if (wide.wide_chunks > 0 && attention_wgmma_fits(context, wide)) {
    attention_widen(context, p, wide, site);
    attention_wgmma(context, wide, site);
    AttentionParameters narrow = p;
    narrow.wide_chunks = wide.wide_chunks;
    const bool fits_always = wide.wide_chunks == context.capacity.chunk_ids;
    if (!fits_always) attention_mma(context, narrow, site);
    return;
  }
  attention_mma_fits(p) ? attention_mma(context, p, site) : attention_prefill(context, p, site);
}

}  // namespace

bool attention_takes_product(const CudaContext& context, const AttentionArgs& args) {
  return context.capacity.tokens <= kFewRows && attention_rows_fits(parameters(args));
}

bool attention_is_of_many(const CudaContext& context, const AttentionArgs& args) {
  return context.one_row_each && context.capacity.tokens > kFewRows && attention_many_fits(context, parameters(args));
}

void cuda_attention(CudaContext& context, const AttentionArgs& args, const QkvProduct& fresh) {
  const CudaSite site{"attention", args.layer};
  const AttentionParameters p = parameters(args);
  require_contract(args.q.dtype == args.out.dtype, "q and the output differ in dtype", site);
  require_contract(args.heads % args.kv_heads == 0 && args.head_dim % 2 == 0 && args.head_dim <= 256, "head shape", site);

  if (context.capacity.tokens <= kFewRows) {
    attend_rows(context, p, context.capacity.tokens, false, {fresh, context.fault}, site);
  } else {
    require_contract(fresh.product == nullptr, "more rows than the fused kernel takes", site);
    // Also where a step may hold as many sequences as rows: one of them can still bring several rows.
    if (!context.one_row_each) attend_tiles(context, p, site);
    if (attention_many_fits(context, p)) return attention_many(context, p, site);
    attend_rows(context, p, context.capacity.sequences, true, {}, site);
  }
}

}  // namespace bolide
