// Attention of single rows over a long KV: split over blocks, combined by the block that arrives last (Dao et al., "Flash-Decoding").
//
// Grid [splits, Hkv * head groups, rows]. A row that sees n positions uses ceil(n / 64) of the splits, at most all; each block
// walks its share of positions for `block_heads` query heads at once, so that K and V are read once per head group.
// Within a block a token is one lane group's work: kLanes lanes hold the Dh elements, kElements (8 where Dh is a multiple of 8)
// per load; kTokens tokens per lane group are in flight, with an online softmax (Milakov & Gimelshein, arXiv:1805.02867) per lane
// group. Lane groups merge by shuffles, warps through shared memory, blocks through scratch [unit][split][head][m, l, o(Dh)]:
// the last of a unit's blocks to count itself in `arrivals` adds the parts in the order of the splits, so that the result does not
// depend on which block that was, and sets the counter back to zero.
// Bytes moved: per row and head group 2 * n * Dh * size(KV), + the scratch when split.
#include "cuda/attention.h"
#include "cuda/device/convert.cuh"
#include "cuda/device/kv.cuh"
#include "cuda/device/launch.h"

namespace bolide {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kTokens = 4;           // per lane group and iteration
constexpr int kTokensPerSplit = 64;  // at least, where a row is split
constexpr unsigned kAll = 0xffffffffu;

struct DecodeParameters {
  AttentionParameters a;
  int32_t single_rows, splits, head_groups;
  float* partials;
  int32_t* arrivals;
};

// Running softmax of one head in one lane: maximum (log2 domain), sum, and kVectors * kElements elements of the output.
template <int kSize>
struct Softmax {
  float m = -INFINITY, l = 0.0f;
  float o[kSize] = {};

  __device__ void rescale(float new_m) {
    const float factor = m == new_m ? 1.0f : exp2f(m - new_m);  // -inf to -inf: nothing seen yet
    m = new_m;
    l *= factor;
#pragma unroll
    for (int i = 0; i < kSize; ++i) o[i] *= factor;
  }
  // Weight of a score under the current maximum.
  __device__ float weight(float score) const { return m == -INFINITY ? 0.0f : exp2f(score - m); }
};

struct RowPlace {
  int row, sequence, begin, end;  // visible positions [begin, end)
  bool present;
};
// All of a row's numbers are asked for at once, before it is known whether the row exists: arrays have room for the capacity.
__device__ RowPlace find_row(const DecodeParameters& p, int index) {
  const StepInputs& in = p.a.in;
  RowPlace r{};
  if (p.single_rows) {
    const int first = in.query_offsets[index], past = in.query_offsets[index + 1];
    r.present = index < in.counts->sequences && past - first == 1;
    r.sequence = index;
    r.row = first;
    if (!r.present) return r;
    r.end = in.positions[r.row] + 1;
  } else {
    r.row = index;
    r.sequence = in.row_sequences[index];
    r.end = in.positions[index] + 1;
    r.present = index < in.counts->tokens;
  }
  r.begin = first_visible(p.a, r.end - 1);
  return r;
}

template <int kElements, int kLanes, int kVectors>
struct Lanes {
  int lane;  // within the lane group
  __device__ int element(int v) const { return (v * kLanes + lane) * kElements; }
};

// One block's share of positions, for its heads: the lane group's softmax over the tokens it walked.
template <class KV, int kElements, int kLanes, int kVectors, int kHeads>
__device__ void walk(const DecodeParameters& p, const RowPlace& r, int begin, int end, int kv_head, int first_head, int heads,
                     Softmax<kElements * kVectors> (&state)[kHeads]) {
  using Vector = Pack<KV, kElements>;
  constexpr int kGroups = 32 / kLanes, kSlots = kWarps * kGroups;
  const AttentionParameters& a = p.a;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, slot = warp * kGroups + lane / kLanes;
  const Lanes<kElements, kLanes, kVectors> mine{lane % kLanes};
  const int32_t* chunks = a.in.chunk_ids + a.in.chunk_offsets[r.sequence];

  float q[kHeads][kElements * kVectors];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const int64_t base = (static_cast<int64_t>(r.row) * a.heads + first_head + (h < heads ? h : 0)) * a.head_dim;
#pragma unroll
    for (int i = 0; i < kElements * kVectors; ++i) {
      const int d = mine.element(i / kElements) + i % kElements;
      float value = 0.0f;
      if (d < a.head_dim) {
        value = a.activations == DType::bf16 ? to_float(static_cast<const __nv_bfloat16*>(a.q)[base + d])
                                             : static_cast<const float*>(a.q)[base + d];
      }
      q[h][i] = value * a.scale_log2;
    }
  }

  for (int base = begin; base < end; base += kSlots * kTokens) {
    Vector k[kTokens][kVectors], v[kTokens][kVectors];
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const int position = base + t * kSlots + slot;
      const bool valid = position < end;
      const KvPlace place = kv_place(a, chunks, valid ? position : begin);
      const KV* k_row = kv_row<KV>(a.kv, a.layer, place.chunk, kv_head, false, place.offset);
      const KV* v_row = k_row + static_cast<int64_t>(a.kv.chunk_tokens) * a.kv.head_dim;
#pragma unroll
      for (int i = 0; i < kVectors; ++i) {
        k[t][i].zero();
        v[t][i].zero();
        if (valid && mine.element(i) < a.head_dim) {
          k[t][i] = *reinterpret_cast<const Vector*>(k_row + mine.element(i));
          v[t][i] = *reinterpret_cast<const Vector*>(v_row + mine.element(i));
        }
      }
    }
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      float score[kTokens], top = state[h].m;
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        float dot = 0.0f;
#pragma unroll
        for (int i = 0; i < kElements * kVectors; ++i) dot = fmaf(q[h][i], to_float(k[t][i / kElements].v[i % kElements]), dot);
#pragma unroll
        for (int offset = kLanes / 2; offset > 0; offset >>= 1) dot += __shfl_xor_sync(kAll, dot, offset);
        score[t] = base + t * kSlots + slot < end ? dot : -INFINITY;
        top = fmaxf(top, score[t]);
      }
      state[h].rescale(top);
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        const float weight = state[h].weight(score[t]);
        state[h].l += weight;
#pragma unroll
        for (int i = 0; i < kElements * kVectors; ++i)
          state[h].o[i] = fmaf(weight, to_float(v[t][i / kElements].v[i % kElements]), state[h].o[i]);
      }
    }
  }
}

// Merges the lane groups of a warp; afterwards each lane group holds the warp's state.
template <int kLanes, int kSize>
__device__ void merge_lane_groups(Softmax<kSize>& s) {
#pragma unroll
  for (int offset = 16; offset >= kLanes; offset >>= 1) {
    s.rescale(fmaxf(s.m, __shfl_xor_sync(kAll, s.m, offset)));
    // Both sides now share the maximum.
    s.l += __shfl_xor_sync(kAll, s.l, offset);
#pragma unroll
    for (int i = 0; i < kSize; ++i) s.o[i] += __shfl_xor_sync(kAll, s.o[i], offset);
  }
}

// Weighted sum over `parts` records [m, l, o(Dh)] that lie `stride` floats apart: element d of o, and of l and m by reference.
template <class Load>
__device__ float merge_parts(const float* parts, int count, int64_t stride, int d, float& m, float& l, Load load) {
  m = -INFINITY;
  for (int i = 0; i < count; ++i) m = fmaxf(m, load(parts + i * stride));
  l = 0.0f;
  float o = 0.0f;
  for (int i = 0; i < count; ++i) {
    const float part_m = load(parts + i * stride);
    const float factor = part_m == -INFINITY ? 0.0f : exp2f(part_m - m);
    l += load(parts + i * stride + 1) * factor;
    o += load(parts + i * stride + 2 + d) * factor;
  }
  return o;
}

__device__ inline void store_output(const AttentionParameters& a, int row, int head, int d, float value) {
  const int64_t at = (static_cast<int64_t>(row) * a.heads + head) * a.head_dim + d;
  if (a.activations == DType::bf16)
    static_cast<__nv_bfloat16*>(a.out)[at] = from_float<__nv_bfloat16>(value);
  else
    static_cast<float*>(a.out)[at] = value;
}

template <class KV, int kElements, int kLanes, int kVectors, int kHeads>
__global__ void __launch_bounds__(kThreads) decode_kernel(DecodeParameters p) {
  extern __shared__ float shared[];  // [kWarps][kHeads][m, l, o(Dh)]
  __shared__ bool is_last;
  const AttentionParameters& a = p.a;
  const RowPlace r = find_row(p, blockIdx.z);
  if (!r.present) return;
  const int length = r.end - r.begin;
  const int splits = min(p.splits, (length + kTokensPerSplit - 1) / kTokensPerSplit), split = blockIdx.x;
  if (split >= splits) return;
  const int share = (length + splits - 1) / splits, begin = r.begin + split * share, end = min(r.end, begin + share);

  const int group = a.heads / a.kv_heads, kv_head = blockIdx.y / p.head_groups, head_group = blockIdx.y % p.head_groups;
  const int first_head = kv_head * group + head_group * kHeads, heads = min(kHeads, group - head_group * kHeads);
  Softmax<kElements * kVectors> state[kHeads];
  walk<KV, kElements, kLanes, kVectors, kHeads>(p, r, begin, end, kv_head, first_head, heads, state);

  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, record = a.head_dim + 2;
  const Lanes<kElements, kLanes, kVectors> mine{lane % kLanes};
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    merge_lane_groups<kLanes>(state[h]);
    if (lane >= kLanes) continue;
    float* to = shared + (warp * kHeads + h) * record;
    if (lane == 0) to[0] = state[h].m, to[1] = state[h].l;
#pragma unroll
    for (int i = 0; i < kElements * kVectors; ++i) {
      const int d = mine.element(i / kElements) + i % kElements;
      if (d < a.head_dim) to[2 + d] = state[h].o[i];
    }
  }
  __syncthreads();

  const int64_t unit = static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y;
  float* parts = p.partials + unit * p.splits * kHeads * record;
  const auto from_shared = [](const float* at) { return *at; };
  for (int i = threadIdx.x; i < heads * a.head_dim; i += kThreads) {
    const int h = i / a.head_dim, d = i % a.head_dim;
    float m, l;
    const float o = merge_parts(shared + h * record, kWarps, kHeads * record, d, m, l, from_shared);
    if (splits == 1) {
      store_output(a, r.row, first_head + h, d, o / l);
    } else {
      float* to = parts + (split * kHeads + h) * record;
      if (d == 0) to[0] = m, to[1] = l;
      to[2 + d] = o;
    }
  }
  if (splits == 1) return;

  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicAdd(p.arrivals + unit, 1) == splits - 1;
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  const auto from_scratch = [](const float* at) { return __ldcg(at); };
  for (int i = threadIdx.x; i < heads * a.head_dim; i += kThreads) {
    const int h = i / a.head_dim, d = i % a.head_dim;
    float m, l;
    const float o = merge_parts(parts + h * record, splits, kHeads * record, d, m, l, from_scratch);
    store_output(a, r.row, first_head + h, d, o / l);
  }
  if (threadIdx.x == 0) p.arrivals[unit] = 0;
}

template <class KV, int kElements, int kLanes, int kVectors>
void launch_decode(CudaContext& context, const DecodeParameters& p, int block_heads, dim3 grid, const CudaSite& site) {
  const size_t shared = static_cast<size_t>(kWarps) * block_heads * (p.a.head_dim + 2) * sizeof(float);
  const auto kernel = block_heads == 1   ? decode_kernel<KV, kElements, kLanes, kVectors, 1>
                      : block_heads == 2 ? decode_kernel<KV, kElements, kLanes, kVectors, 2>
                                         : decode_kernel<KV, kElements, kLanes, kVectors, 4>;
  launch(site, kernel, grid, dim3(kThreads), shared, context.stream, p);
}

}  // namespace

void attention_decode(CudaContext& context, const AttentionParameters& a, int32_t rows, bool single_rows, const CudaSite& site) {
  const SplitPlan plan = split_plan(context.multiprocessors, rows, a.heads, a.kv_heads);
  const size_t units = static_cast<size_t>(rows) * a.kv_heads * plan.head_groups;
  const size_t record = static_cast<size_t>(plan.block_heads) * (a.head_dim + 2) * sizeof(float);
  const bool fits = plan.splits == 1 || (units * plan.splits * record <= context.scratch.attention_bytes &&
                                         (units + kAttentionCounters) * sizeof(int32_t) <= context.scratch.arrivals_bytes);
  require_contract(fits, "reserve() was not called for this many rows", site);
  const DecodeParameters p{a, single_rows, plan.splits, plan.head_groups, context.scratch.attention, context.scratch.arrivals};
  const dim3 grid(plan.splits, a.kv_heads * plan.head_groups, rows);
  with_kv_type(a.kv.dtype, [&](auto tag) {
    using KV = typename decltype(tag)::type;
    if (a.head_dim % 8 != 0) return launch_decode<KV, 2, 32, 4>(context, p, plan.block_heads, grid, site);
    if (a.head_dim <= 64) return launch_decode<KV, 8, 8, 1>(context, p, plan.block_heads, grid, site);
    if (a.head_dim <= 128) return launch_decode<KV, 8, 16, 1>(context, p, plan.block_heads, grid, site);
    launch_decode<KV, 8, 32, 1>(context, p, plan.block_heads, grid, site);
  });
}

}  // namespace bolide
