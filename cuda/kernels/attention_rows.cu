// Attention of single rows on the tensor cores, for bfloat16 and head sizes 64 and 128: the path of decoding. Same split of the KV length
// over blocks as attention_decode.cu, which takes what this kernel does not.
//
// Grid [Hkv, splits, rows], so that blocks with work come first. A row that sees n positions uses ceil(n / 128) of the splits, at most all;
// a block walks its share of positions for all query heads of a kv head. A warp takes 16 positions at a time:
//   scores [heads, 16] = q [heads, Dh] K^T   mma.m16n8k16, A = q (heads in the upper half), B = K as it lies in memory
//   out^T [Dh, heads] += V^T P^T             the same, A = V^T (pairs of positions put together by byte permutation), B = P
// so that the scores' accumulators are P's fragments (Dao, "FlashAttention-2", arXiv:2307.08691) and one reading of K and V serves up to
// 8 heads. The order of k within a fragment does not matter as long as both operands agree, so every load is 16 bytes a lane.
// P is rounded to bfloat16; scores, softmax (online: Milakov & Gimelshein, arXiv:1805.02867) and sums are float32.
// The next 16 positions are asked for as soon as registers are free. Warps merge through shared memory; blocks through scratch
// [unit][split][head][m, l, o(Dh)], where the last to count itself in `arrivals` adds the parts in the order of the splits, so that the
// result does not depend on which one that was, and sets the counter back to zero.
//
// Fused with norm_qkv (fresh.product given): q, and K and V of the step's own rows, are made here from the product, which saves a kernel
// between the two; the block that reaches the row's own position appends its K and V. What the cache held before the step is asked for
// before the kernels in front have ended (device/dependent.cuh).
//
// The code is kept short: a step runs through five kernels a layer, and instructions are fetched anew each time.
// Preconditions: K, V, q and the output bf16; C a multiple of 16 and a power of two; H / Hkv <= 8.
// Bytes moved: per row 2 * n * Hkv * Dh * 2, + the scratch when split.
#include <algorithm>

#include "cuda/attention.h"
#include "cuda/device/convert.cuh"
#include "cuda/device/dependent.cuh"
#include "cuda/device/fault.cuh"
#include "cuda/device/head.cuh"
#include "cuda/device/kv.cuh"
#include "cuda/device/launch.h"

namespace bolide {
namespace {

using bf16 = __nv_bfloat16;

constexpr int kWarps = 8, kThreads = kWarps * 32;
constexpr int kTile = 16;                   // positions a warp takes at a time
constexpr int kBlockTile = kWarps * kTile;  // and a block
constexpr int kMaxHeads = 8;                // query heads of a kv head
constexpr unsigned kAll = 0xffffffffu;

struct RowsParameters {
  AttentionParameters a;
  FreshRows fresh;
  int32_t single_rows, splits, group;  // group: H / Hkv
  float* partials;
  int32_t* arrivals;
};

struct RowPlace {
  int row, sequence;
  int begin, end;  // visible positions
  int old_end;     // positions below it were in the cache before this step
  bool present;
};
// All of a row's numbers are asked for at once, before it is known whether the row exists: arrays have room for the capacity.
__device__ inline RowPlace find_row(const RowsParameters& p, int index) {
  const StepInputs& in = p.a.in;
  RowPlace r{};
  r.sequence = p.single_rows ? index : in.row_sequences[index];
  const int limit = p.single_rows ? in.counts->sequences : in.counts->tokens;
  r.present = index < limit;
  if (!r.present) return r;
  const int first = in.query_offsets[r.sequence];
  r.row = p.single_rows ? first : index;
  r.old_end = in.positions[first];
  r.end = r.old_end + (r.row - first) + 1;  // rows of a sequence are consecutive
  r.begin = first_visible(p.a, r.end - 1);
  if (p.single_rows) r.present = in.query_offsets[index + 1] - first == 1;
  return r;
}

__device__ inline uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ inline void multiply(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
__device__ inline uint32_t word(const uint4& v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }
// Element i of x and of y, side by side.
__device__ inline uint32_t pair_of(const uint4& x, const uint4& y, int i) {
  return __byte_perm(word(x, i / 2), word(y, i / 2), i % 2 ? 0x7632 : 0x5410);
}

// Shared memory: what the warps found, o [kWarps][group][Dh] and (m, l) [kWarps][group]; q [kMaxHeads][Dh]; K and V of the step's own rows
// [kFewRows][K, V][Dh].
template <int kDh>
struct RowsShared {
  float* o;
  float2* ml;
  bf16 *q, *fresh;
  size_t bytes;
  __host__ __device__ RowsShared(void* base, int group) {
    o = static_cast<float*>(base);
    ml = reinterpret_cast<float2*>(o + kWarps * group * kDh);
    q = reinterpret_cast<bf16*>(ml + kWarps * (group + group % 2));
    fresh = q + kMaxHeads * kDh;
    bytes = static_cast<size_t>(reinterpret_cast<char*>(fresh + kFewRows * 2 * kDh) - static_cast<char*>(base));
  }
};

template <int kDh>
struct RowsBlock {
  static constexpr int kSteps = kDh / 32, kHalves = kDh / 64;

  const RowsParameters& p;
  const AttentionParameters& a = p.a;
  const RowsShared<kDh> shared;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const int kv_head = blockIdx.x, group = p.group;
  RowPlace r;
  int begin = 0, end = 0;  // of the block's share; begin a multiple of kTile, so that a tile lies within a chunk
  const int32_t* chunks = nullptr;
  uint4 k[2][kSteps];             // position g of the tile's lower and upper 8, dims 32 s + 8 t ..
  uint4 v[kHalves][4];            // positions 2 t, 2 t + 1, 8 + 2 t, 9 + 2 t, dims 64 h + 8 g ..
  float o[kHalves][4][4] = {};    // dims 64 h + 8 g + j and + 4, heads 2 t and 2 t + 1
  float m = -INFINITY, l = 0.0f;  // of head g; l over this lane's positions

  __device__ RowsBlock(const RowsParameters& parameters, void* base)
      : p(parameters), shared(base, parameters.group), r(find_row(parameters, blockIdx.z)) {}

  __device__ int v_position(int i) const { return 2 * t + (i & 1) + (i & 2) * 4; }

  // What the cache holds of the tile at `base`; positions outside the share become zeros.
  __device__ void load_k(int base, int limit) {
    const bf16* rows = base < end ? tile_rows(base, false) : nullptr;
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      const bool inside = base + 8 * b + g < limit;
#pragma unroll
      for (int s = 0; s < kSteps; ++s)
        k[b][s] = inside ? *reinterpret_cast<const uint4*>(rows + (8 * b + g) * kDh + 32 * s + 8 * t) : make_uint4(0, 0, 0, 0);
    }
  }
  __device__ void load_v(int base, int limit) {
    const bf16* rows = base < end ? tile_rows(base, true) : nullptr;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool inside = base + v_position(i) < limit;
#pragma unroll
      for (int h = 0; h < kHalves; ++h)
        v[h][i] = inside ? *reinterpret_cast<const uint4*>(rows + v_position(i) * kDh + 64 * h + 8 * g) : make_uint4(0, 0, 0, 0);
    }
  }
  __device__ const bf16* tile_rows(int base, bool is_v) const {
    const KvPlace place = kv_place(a, chunks, base);
    return kv_row<bf16>(a.kv, a.layer, place.chunk, kv_head, is_v, place.offset);
  }
  // Rows of this step in the tile, which the cache may not hold yet.
  __device__ void take_fresh(int base) {
#pragma unroll
    for (int b = 0; b < 2; ++b) {
      const int position = base + 8 * b + g;
      if (position < r.old_end || position >= end) continue;
#pragma unroll
      for (int s = 0; s < kSteps; ++s)
        k[b][s] = *reinterpret_cast<const uint4*>(shared.fresh + 2 * (position - r.old_end) * kDh + 32 * s + 8 * t);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int position = base + v_position(i);
      if (position < r.old_end || position >= end) continue;
#pragma unroll
      for (int h = 0; h < kHalves; ++h)
        v[h][i] = *reinterpret_cast<const uint4*>(shared.fresh + (2 * (position - r.old_end) + 1) * kDh + 64 * h + 8 * g);
    }
  }

  // q of the kv head's query heads, and K and V of the step's own rows that the share holds, from the product.
  __device__ void make_fresh() const {
    const int first_new = max(begin, r.old_end), tasks = group + 2 * max(0, end - first_new);
    for (int task = warp; task < tasks; task += kWarps) {
      const bool is_q = task < group;
      const int offset = task - group, position = first_new + offset / 2, is_v = offset & 1;
      const int row = is_q ? r.row : r.row - (r.end - 1 - position);
      const int head = is_q ? kv_head * group + task : a.heads + is_v * a.kv_heads + kv_head;
      HeadPairs<kHalves> pairs;
      pairs.make(p.fresh.product, row, head, lane);
      pairs.store(is_q ? shared.q + task * kDh : shared.fresh + (2 * (position - r.old_end) + is_v) * kDh, kDh / 2, lane);
      if (is_q || row != r.row) continue;
      const int32_t slot = a.in.slots[row];
      if (slot < 0 || slot >= static_cast<int64_t>(a.kv.chunks) * a.kv.chunk_tokens) {
        if (lane == 0) report_fault(p.fresh.fault, DeviceFault::bad_slot, row, slot);
      } else {
        pairs.store(kv_row<bf16>(a.kv, a.layer, slot / a.kv.chunk_tokens, kv_head, is_v, slot % a.kv.chunk_tokens), kDh / 2, lane);
      }
    }
  }
  __device__ void stage_q() const {
    const uint4* from =
        reinterpret_cast<const uint4*>(static_cast<const bf16*>(a.q) + (static_cast<int64_t>(r.row) * a.heads + kv_head * group) * kDh);
    for (int i = threadIdx.x; i < group * kDh / 8; i += kThreads) reinterpret_cast<uint4*>(shared.q)[i] = from[i];
  }

  // One tile: scores, softmax, output. Asks for the tile at `next` as registers become free.
  __device__ void walk_tile(const uint4 (&q)[kSteps], int base, int next) {
    float score[2][4] = {};
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        multiply(score[b], q[s].x, 0, q[s].y, 0, k[b][s].x, k[b][s].y);
        multiply(score[b], q[s].z, 0, q[s].w, 0, k[b][s].z, k[b][s].w);
      }
    }
    load_k(next, end);
    float top = m;
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // in the order of v_position: score[b][c] is position 8 b + 2 t + c
      const int position = base + v_position(i);
      float& x = score[i / 2][i % 2];
      x = position >= r.begin && position < end ? x * a.scale_log2 : -INFINITY;
      top = fmaxf(top, x);
    }
    top = fmaxf(top, __shfl_xor_sync(kAll, top, 1));
    top = fmaxf(top, __shfl_xor_sync(kAll, top, 2));
    const float base_score = top == -INFINITY ? 0.0f : top;  // nothing visible yet: all weights are 0
    const float factor = exp2f(m - base_score);
    m = top;
    float weight[4];
    l *= factor;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      weight[i] = exp2f(score[i / 2][i % 2] - base_score);
      l += weight[i];
    }
    const uint32_t p0 = pack(weight[0], weight[1]), p1 = pack(weight[2], weight[3]);
    const float even = __shfl_sync(kAll, factor, 8 * t), odd = __shfl_sync(kAll, factor, 8 * t + 4);  // of heads 2 t and 2 t + 1
#pragma unroll
    for (int h = 0; h < kHalves; ++h) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        o[h][j][0] *= even, o[h][j][1] *= odd, o[h][j][2] *= even, o[h][j][3] *= odd;
        multiply(o[h][j], pair_of(v[h][0], v[h][1], j), pair_of(v[h][0], v[h][1], j + 4), pair_of(v[h][2], v[h][3], j),
                 pair_of(v[h][2], v[h][3], j + 4), p0, p1);
      }
    }
    load_v(next, end);
  }

  __device__ void store_warp() {
    l += __shfl_xor_sync(kAll, l, 1);
    l += __shfl_xor_sync(kAll, l, 2);
    if (t == 0 && g < group) shared.ml[warp * group + g] = make_float2(m, l);
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int head = 2 * t + c;
      if (head >= group) continue;
      float* to = shared.o + (warp * group + head) * kDh + 8 * g;
#pragma unroll
      for (int h = 0; h < kHalves; ++h) {
        *reinterpret_cast<float4*>(to + 64 * h) = make_float4(o[h][0][c], o[h][1][c], o[h][2][c], o[h][3][c]);
        *reinterpret_cast<float4*>(to + 64 * h + 4) = make_float4(o[h][0][2 + c], o[h][1][2 + c], o[h][2][2 + c], o[h][3][2 + c]);
      }
    }
  }

  __device__ void store_output(int head, int d, float value) const {
    static_cast<bf16*>(a.out)[(static_cast<int64_t>(r.row) * a.heads + kv_head * group + head) * kDh + d] = from_float<bf16>(value);
  }

  __device__ void run();
};

// Element of a weighted sum over `count` partial softmaxes; ml(i) and o(i) give part i's (m, l) and its element.
struct Merged {
  float m = -INFINITY, l = 0.0f, o = 0.0f;
};
template <class Ml, class O>
__device__ inline Merged merge(int count, Ml ml, O o) {
  Merged all;
#pragma unroll 4
  for (int i = 0; i < count; ++i) all.m = fmaxf(all.m, ml(i).x);
#pragma unroll 4
  for (int i = 0; i < count; ++i) {
    const float2 part = ml(i);
    const float factor = part.x == -INFINITY ? 0.0f : exp2f(part.x - all.m);
    all.l += part.y * factor;
    all.o += o(i) * factor;
  }
  return all;
}

template <int kDh>
__device__ void RowsBlock<kDh>::run() {
  __shared__ bool is_last;
  const bool fused = p.fresh.product.product != nullptr;
  let_next_start();
  // Blocks without work need not wait for the kernels in front: the first row's first block always does.
  if (!r.present) return;
  const int aligned = r.begin / kTile * kTile, tiles = (r.end - aligned + kTile - 1) / kTile, split = blockIdx.y;
  const int splits = min(p.splits, (tiles + kWarps - 1) / kWarps), share = (tiles + splits - 1) / splits * kTile;
  if (split < splits) {
    begin = aligned + split * share;
    end = min(r.end, begin + share);
    chunks = a.in.chunk_ids + a.in.chunk_offsets[r.sequence];
    if (!fused) wait_for_previous();
    const int limit = fused ? min(end, r.old_end) : end;
    load_k(begin + warp * kTile, limit);
    load_v(begin + warp * kTile, limit);
  }
  if (fused && warp <= group && lane < kDh / 32) {  // norms of heads, for make_fresh
    const float* norm = warp < group ? p.fresh.product.q_norm : p.fresh.product.k_norm;
    if (norm) asm volatile("prefetch.global.L2 [%0];" ::"l"(norm + 32 * lane));
  }
  if (split >= splits) return;
  wait_for_previous();
  fused ? make_fresh() : stage_q();
  __syncthreads();
  uint4 q[kSteps];
#pragma unroll
  for (int s = 0; s < kSteps; ++s)
    q[s] = g < group ? *reinterpret_cast<const uint4*>(shared.q + g * kDh + 32 * s + 8 * t) : make_uint4(0, 0, 0, 0);
  for (int base = begin + warp * kTile; base < end; base += kBlockTile) {
    if (fused && base + kTile > r.old_end) take_fresh(base);
    walk_tile(q, base, base + kBlockTile);
  }
  store_warp();
  __syncthreads();

  constexpr int kRecord = kDh + 2;
  const int64_t unit = static_cast<int64_t>(blockIdx.z) * a.kv_heads + kv_head;
  float* parts = p.partials + unit * p.splits * group * kRecord;
  const int warps = min(kWarps, (end - begin + kTile - 1) / kTile);
  for (int i = threadIdx.x; i < group * kDh; i += kThreads) {
    const int head = i / kDh, d = i % kDh;
    const Merged all = merge(
        warps, [&](int w) { return shared.ml[w * group + head]; }, [&](int w) { return shared.o[(w * group + head) * kDh + d]; });
    if (splits == 1) {
      store_output(head, d, all.o / all.l);
    } else {
      float* to = parts + (split * group + head) * kRecord;
      if (d == 0) *reinterpret_cast<float2*>(to) = make_float2(all.m, all.l);
      to[2 + d] = all.o;
    }
  }
  if (splits == 1) return;

  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicAdd(p.arrivals + unit, 1) == splits - 1;
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  for (int i = threadIdx.x; i < group * kDh; i += kThreads) {
    const int head = i / kDh, d = i % kDh;
    const float* from = parts + head * kRecord;
    const Merged all = merge(
        splits, [&](int s) { return __ldcg(reinterpret_cast<const float2*>(from + s * group * kRecord)); },
        [&](int s) { return __ldcg(from + s * group * kRecord + 2 + d); });
    store_output(head, d, all.o / all.l);
  }
  if (threadIdx.x == 0) p.arrivals[unit] = 0;
}

template <int kDh>
__global__ void __launch_bounds__(kThreads, 2) attention_rows_kernel(RowsParameters p) {
  extern __shared__ float4 base[];
  RowsBlock<kDh>(p, base).run();
}

}  // namespace

bool attention_rows_fits(const AttentionParameters& a) {
  return a.activations == DType::bf16 && a.kv.dtype == DType::bf16 && (a.head_dim == 64 || a.head_dim == 128) && a.chunk_shift >= 4 &&
         a.heads / a.kv_heads <= kMaxHeads;
}

void attention_rows(CudaContext& context, const AttentionParameters& a, int32_t rows, bool single_rows, const FreshRows& fresh,
                    const CudaSite& site) {
  const int group = a.heads / a.kv_heads, splits = row_splits(context.multiprocessors, rows, a.kv_heads);
  const size_t units = static_cast<size_t>(rows) * a.kv_heads;
  const bool fits = splits == 1 || (units * splits * group * (a.head_dim + 2) * sizeof(float) <= context.scratch.attention_bytes &&
                                    units * sizeof(int32_t) <= context.scratch.arrivals_bytes);
  require_contract(fits, "reserve() was not called for this many rows", site);
  const RowsParameters p{a, fresh, single_rows, splits, group, context.scratch.attention, context.scratch.arrivals};
  const dim3 grid(a.kv_heads, splits, rows);
  // With single_rows a step may hold no row for this kernel, and then no block would wait.
  const LaunchOptions options{context.dependent_launch && !single_rows};
  if (a.head_dim == 128)
    launch_with(options, site, attention_rows_kernel<128>, grid, dim3(kThreads), RowsShared<128>(nullptr, group).bytes, context.stream, p);
  else
    launch_with(options, site, attention_rows_kernel<64>, grid, dim3(kThreads), RowsShared<64>(nullptr, group).bytes, context.stream, p);
}

}  // namespace bolide
