// Attention of sequences with many rows on Hopper's warpgroup tensor cores, for bfloat16 q, K and V (e4m3 by way of attention_widen.cu):
// FlashAttention-3's pipeline (Shah et al., arXiv:2407.08608). out[t, h] = softmax(scale * q[t, h] . K) V, causal or windowed, as
// attention.cu says. Scores, maxima and sums are float32; the weights are rounded to bfloat16 for the product with V, their sum is not.
//
// A persistent grid: each block takes work items by a counter, longest contexts first. An item is one head's tile of kRows query rows
// of one sequence (find_tile; sequences with a single row are left to others). It walks the keys in tiles of kKeys that
// start at multiples of kKeys in the sequence, from the rows' own back to the first visible one, so that a row's sums have the same
// order however the prompt was cut into steps and whatever else the step holds; tiles that a row does not see change nothing of it.
//
// Of a block's kGroups + 1 warpgroups the first gives its registers away; one of its warps brings q, K and V by bulk tensor copies,
// K and V into rings of kStages tiles each, and runs ahead into the next item. The others own 64 rows each: scores S = Q K^T (Q, K in
// shared memory), softmax in registers, O += P V (P in registers, V in shared memory, N-major). The scores of a tile are multiplied while
// the previous tile's P V is, and the softmax runs beside P V; with kInTurns the warpgroups start their products in turns, so that one's
// softmax falls under the other's products.
// Shared memory: Q [kDh / 64 panels][kRows][64], K and V [kStages][panels][kKeys][64], swizzled panels of device/wgmma.cuh.
//
// Tensor maps: q as [T, H, Dh] with boxes of kRows rows of one head; the layer's K and V as [chunks * Hkv * 2 * C, Dh] with boxes of
// min(C, kKeys) rows: K of (chunk, kv head) is C rows, its V the next C. Positions beyond the sequence's last chunk are not copied, so
// their rows hold whatever lay there: their scores are replaced by -inf, and V's rows are set to zero (0 * NaN is NaN).
// Preconditions: Dh 64 or 128; C a multiple of 8 that divides kKeys or is a multiple of it; scale > 0; compute capability 9.0.
// Operations: 4 * Dh per visible (row, key) pair and head. Bytes: K and V once per tile of rows and head, mostly from L2: at 600
// TFLOP/s a block of 128 rows reads 36 GB/s.
#include <cuda_bf16.h>

#include <algorithm>
#include <cstddef>
#include <iterator>

#include "cuda/architectures.h"
#include "cuda/attention.h"
#include "cuda/device/attention_rows.cuh"
#include "cuda/device/dependent.cuh"
#include "cuda/device/launch.h"
#include "cuda/device/pipeline.cuh"
#include "cuda/device/wgmma.cuh"
#include "cuda/tensor_map.h"

namespace bolide {
namespace {

struct WgmmaParameters {
  CUtensorMap q, kv;
  AttentionParameters a;
  int32_t box_tokens;    // rows of a K or V box
  int32_t* next_item;    // zero between launches
  int32_t* blocks_done;  // zero between launches
  DeviceFault* fault;
};

// kTurn: named barriers kTurn .. pass the turn on; kTail: barriers of one warpgroup.
constexpr int kTurn = 1, kTail = 5;

template <int kHeadDim, int kConsumerGroups, int kTileKeys, int kRingStages, bool kTakeTurns>
struct Shape {
  static constexpr int kDh = kHeadDim, kGroups = kConsumerGroups, kKeys = kTileKeys, kStages = kRingStages;
  static constexpr bool kInTurns = kTakeTurns;
  static constexpr int kRows = 64 * kGroups, kPanels = kDh / kPanelWidth, kThreads = 128 * (kGroups + 1), kConsumerWarps = 4 * kGroups;
  static constexpr uint32_t kQueryPanelBytes = kRows * kPanelRowBytes, kKeyPanelBytes = kKeys * kPanelRowBytes;
  static constexpr uint32_t kQueryBytes = kPanels * kQueryPanelBytes, kTileBytes = kPanels * kKeyPanelBytes;
  static constexpr size_t kSharedBytes = kPanelAlignment + kQueryBytes + 2 * kStages * kTileBytes;
  // Registers a thread: all the multiprocessor's 64 K, in the multiples of 8 that setmaxnreg takes.
  static constexpr int kProducerRegisters = kGroups == 2 ? 40 : 32, kConsumerRegisters = kGroups == 2 ? 232 : 160;
};

// A tile of rows of one head.
struct WorkItem {
  int32_t rows;            // 0: no work is left
  int32_t first_row;       // of the step
  int32_t first_position;  // of that row
  int32_t head;
  int32_t kv_length;  // of the sequence
  int32_t last_base;  // first position of the last key tile
  int32_t tiles;      // key tiles
};

template <int kStages>
struct Pipeline {
  uint64_t q_full, q_empty;
  uint64_t k_full[kStages], k_empty[kStages], v_full[kStages], v_empty[kStages];
  uint64_t item_full[2], item_empty[2];
  WorkItem items[2];

  __device__ void init(int consumer_warps) {
    init_barrier(q_full, 1), init_barrier(q_empty, consumer_warps);
    for (int i = 0; i < kStages; ++i) {
      init_barrier(k_full[i], 1), init_barrier(k_empty[i], consumer_warps);
      init_barrier(v_full[i], 1), init_barrier(v_empty[i], consumer_warps);
    }
    for (int i = 0; i < 2; ++i) init_barrier(item_full[i], 1), init_barrier(item_empty[i], consumer_warps);
    publish_barriers();
  }
};

// Shared addresses of the tiles.
template <class S>
struct Tiles {
  uint32_t q;
  __device__ uint32_t k(int stage) const { return q + S::kQueryBytes + stage * S::kTileBytes; }
  __device__ uint32_t v(int stage) const { return k(S::kStages + stage); }
};

// ---- The producer: one warp.

template <class S>
__device__ WorkItem describe(const AttentionParameters& p, const Tile& tile, int head) {
  WorkItem item{tile.rows, tile.first_row, 0, head};
  if (tile.rows == 0) return item;
  item.first_position = p.in.positions[tile.first_row];
  item.kv_length = p.in.kv_lengths[tile.sequence];
  const int last = (item.first_position + tile.rows - 1) / S::kKeys, first = first_visible(p, item.first_position) / S::kKeys;
  item.last_base = last * S::kKeys;
  item.tiles = last - first + 1;
  return item;
}

// K or V of the positions base .. base + kKeys - 1: each lane copies one box of one panel.
template <class S>
__device__ void copy_tile(const WgmmaParameters& a, const int32_t* chunks, int base, int kv_length, int kv_head, bool is_v, uint32_t to,
                          uint64_t& full) {
  const int lane = threadIdx.x & 31, part = lane / S::kPanels, panel = lane % S::kPanels, position = base + part * a.box_tokens;
  const bool valid = part * a.box_tokens < S::kKeys && position < kv_length;
  const unsigned copies = __ballot_sync(kAllLanes, valid);
  if (lane == 0) arrive_expecting(full, __popc(copies) * a.box_tokens * kPanelRowBytes);
  __syncwarp();
  if (!valid) return;
  const KvPlace place = kv_place(a.a, chunks, position);
  const int row = ((place.chunk * a.a.kv_heads + kv_head) * 2 + (is_v ? 1 : 0)) * a.a.kv.chunk_tokens + place.offset;
  copy_box(to + panel * S::kKeyPanelBytes + part * a.box_tokens * kPanelRowBytes, &a.kv, panel * kPanelWidth, row, full);
}

template <class S>
__device__ void copy_queries(const WgmmaParameters& a, const WorkItem& item, uint32_t to, uint64_t& full) {
  if ((threadIdx.x & 31) != 0) return;
  arrive_expecting(full, S::kQueryBytes);
#pragma unroll
  for (int panel = 0; panel < S::kPanels; ++panel) {
    copy_box(to + panel * S::kQueryPanelBytes, &a.q, panel * kPanelWidth, item.head, item.first_row, full);
  }
}

template <class S>
__device__ void produce(const WgmmaParameters& a, Pipeline<S::kStages>& pipe, const Tiles<S>& tiles, int row_tiles) {
  const int lane = threadIdx.x & 31;
  int index = blockIdx.x;
  RingPlace<2> slot;
  RingPlace<1> query;
  RingPlace<S::kStages> k, v;
  for (;;) {
    const Tile tile = find_tile<S::kRows>(a.a.in, row_tiles - 1 - index / a.a.heads);  // none for a negative index
    const WorkItem item = describe<S>(a.a, tile, index % a.a.heads);
    wait(pipe.item_empty[slot.stage], slot.parity ^ 1, a.fault);
    if (lane == 0) {
      pipe.items[slot.stage] = item;
      arrive(pipe.item_full[slot.stage]);
    }
    slot.next();
    if (item.rows == 0) break;

    const int32_t* chunks = a.a.in.chunk_ids + a.a.in.chunk_offsets[tile.sequence];
    const int kv_head = item.head / (a.a.heads / a.a.kv_heads);
    wait(pipe.q_empty, query.parity ^ 1, a.fault);
    copy_queries<S>(a, item, tiles.q, pipe.q_full);
    query.next();
    if (lane == 0) index = atomicAdd(a.next_item, 1) + gridDim.x;
    // K runs one tile ahead of V, as its readers do.
    for (int t = 0, base = item.last_base; t <= item.tiles; ++t, base -= S::kKeys) {
      if (t < item.tiles) {
        wait(pipe.k_empty[k.stage], k.parity ^ 1, a.fault);
        copy_tile<S>(a, chunks, base, item.kv_length, kv_head, false, tiles.k(k.stage), pipe.k_full[k.stage]);
        k.next();
      }
      if (t > 0) {
        wait(pipe.v_empty[v.stage], v.parity ^ 1, a.fault);
        copy_tile<S>(a, chunks, base + S::kKeys, item.kv_length, kv_head, true, tiles.v(v.stage), pipe.v_full[v.stage]);
        v.next();
      }
    }
    index = __shfl_sync(kAllLanes, index, 0);
  }
  // The last block to find no work sets the counters back.
  if (lane == 0) {
    __threadfence();
    if (atomicAdd(a.blocks_done, 1) == static_cast<int>(gridDim.x) - 1) *a.next_item = *a.blocks_done = 0;
  }
}

// ---- The consumers: warpgroups of 64 rows. A thread's part of a row is what device/wgmma.cuh says.

// Starts s = Q K^T of this warpgroup's 64 rows.
template <class S>
__device__ inline void score(uint64_t q, uint64_t k, float (&s)[S::kKeys / 2]) {
#pragma unroll
  for (int d = 0; d < S::kDh / 16; ++d) {
    const uint32_t panel = d / 4, within = d % 4 * 32;
    const uint64_t a = q + descriptor_step(panel * S::kQueryPanelBytes + within),
                   b = k + descriptor_step(panel * S::kKeyPanelBytes + within);
    d == 0 ? multiply<false>(s, a, b) : multiply<true>(s, a, b);
  }
  commit_products();
}

// Starts o += P V.
template <class S>
__device__ inline void add_values(const uint32_t (&weights)[S::kKeys / 4], uint64_t v, float (&o)[S::kDh / 2]) {
#pragma unroll
  for (int i = 0; i < S::kKeys / 16; ++i) multiply_add(o, weights + 4 * i, v + descriptor_step(i * 16 * kPanelRowBytes));
  commit_products();
}

// V's rows from `first` on become zeros. Every warpgroup does it for itself and meets; that another does so too changes nothing.
template <class S>
__device__ void clear_tail(uint32_t v, int first, int group) {
  for (int i = threadIdx.x % 128; i < (S::kKeys - first) * S::kPanels * 8; i += 128) {
    const int piece = i % 8, panel = i / 8 % S::kPanels, row = first + i / 8 / S::kPanels;
    const uint32_t to = v + panel * S::kKeyPanelBytes + row * kPanelRowBytes + piece * 16;
    asm volatile("st.shared.v4.u32 [%0], {%1, %1, %1, %1};" ::"r"(to), "r"(0) : "memory");
  }
  fence_async_proxy();
  meet(kTail + group, 128);
}

// A consumer warpgroup: its place in the block, its places in the rings, and the state of its 64 rows.
template <class S>
struct Consumer {
  const WgmmaParameters& a;
  Pipeline<S::kStages>& pipe;
  const Tiles<S>& tiles;
  const int group = threadIdx.x / 128 - 1;
  const bool leader = (threadIdx.x & 31) == 0;
  // The thread's first row in the item's tile.
  const int row = group * 64 + threadIdx.x % 128 / 32 * 16 + (threadIdx.x & 31) / 4;
  const uint64_t q = k_major_descriptor(tiles.q + group * 64 * kPanelRowBytes);
  RingPlace<2> slot = {};
  RingPlace<1> query = {};
  RingPlace<S::kStages> k = {}, v = {};
  float o[S::kDh / 2], s[S::kKeys / 2], factor[2];
  uint32_t weights[S::kKeys / 4];
  Softmax softmax;

  // The next item; rows == 0: none.
  __device__ WorkItem take() {
    wait(pipe.item_full[slot.stage], slot.parity, a.fault);
    const WorkItem item = pipe.items[slot.stage];
    __syncwarp();
    if (leader) arrive(pipe.item_empty[slot.stage]);
    slot.next();
    return item;
  }
  __device__ void release_keys(bool last) {
    if (leader) arrive(pipe.k_empty[k.stage]);
    if (leader && last) arrive(pipe.q_empty);
    k.next();
  }
  __device__ void release_values() {
    if (leader) arrive(pipe.v_empty[v.stage]);
    v.next();
  }
  __device__ void start_values() {
    wait(pipe.v_full[v.stage], v.parity, a.fault);
    begin_products();
    add_values<S>(weights, n_major_descriptor(tiles.v(v.stage), S::kKeyPanelBytes), o);
  }
  __device__ void soften(const WorkItem& item, int base) {
    const int first = item.first_position + group * 64;  // of the warpgroup
    if (base + S::kKeys - 1 > first || base < first_visible(a.a, first + 63)) hide(a.a, base, item.first_position + row, s);
    softmax.apply(s, a.a.scale_log2, factor);
  }

  // The last key tile: scores alone.
  __device__ void begin(const WorkItem& item) {
    softmax = Softmax{};
#pragma unroll
    for (int i = 0; i < S::kDh / 2; ++i) o[i] = 0.0f;
    wait(pipe.q_full, query.parity, a.fault);
    query.next();
    wait(pipe.k_full[k.stage], k.parity, a.fault);
    begin_products();
    score<S>(q, k_major_descriptor(tiles.k(k.stage)), s);
    wait_products<0>();
    hold(s);
    release_keys(item.tiles == 1);
    soften(item, item.last_base);
    if (item.last_base + S::kKeys > item.kv_length) {
      wait(pipe.v_full[v.stage], v.parity, a.fault);
      clear_tail<S>(tiles.v(v.stage), item.kv_length - item.last_base, group);
    }
  }
  // P V of the tile before the one whose weights are in s is done: its room is free, and the sums move to the new maximum.
  __device__ void settle(bool release) {
    wait_products<0>();
    hold(o);
    hold(s);
    if (release) release_values();
#pragma unroll
    for (int i = 0; i < S::kDh / 2; ++i) o[i] *= factor[i / 2 % 2];
    pack_weights(s, weights);
  }
  // Scores of the tile at `base` beside P V of the tile after it. P V is still under way at the end: waiting for it here, the compiler
  // would move the wait in front of the softmax; it moves nothing around a loop's end.
  __device__ void step(const WorkItem& item, int base, bool last) {
    wait(pipe.k_full[k.stage], k.parity, a.fault);
    if (S::kInTurns) meet(kTurn + group, 256);
    begin_products();
    score<S>(q, k_major_descriptor(tiles.k(k.stage)), s);
    start_values();
    if (S::kInTurns) arrive_at(kTurn + (group + 1) % S::kGroups, 256);
    wait_products<1>();
    hold(s);
    release_keys(last);
    soften(item, base);
  }
  // P V of the first key tile.
  __device__ void end() {
    start_values();
    wait_products<0>();
    hold(o);
    release_values();
  }

  __device__ void run() {
    if (S::kInTurns && group == S::kGroups - 1) arrive_at(kTurn, 256);  // the first turn is the first group's
    for (;;) {
      const WorkItem item = take();
      if (item.rows == 0) break;
      begin(item);
      for (int t = 1, base = item.last_base - S::kKeys; t < item.tiles; ++t, base -= S::kKeys) {
        settle(t > 1);
        step(item, base, t == item.tiles - 1);
      }
      settle(item.tiles > 1);
      end();
      store_rows(a.a, item.first_row, item.rows, item.head, row, softmax, o);
    }
  }
};

template <class S>
__global__ void __launch_bounds__(S::kThreads, 1) prefill_wgmma_kernel(const __grid_constant__ WgmmaParameters a) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint4 shared[];
  __shared__ Pipeline<S::kStages> pipe;
  const Tiles<S> tiles{(shared_address(shared) + kPanelAlignment - 1) / kPanelAlignment * kPanelAlignment};
  let_next_start();
  // Of steps that only decode, nothing is left: known before the kernels in front have ended.
  const int row_tiles = count_tiles<S::kRows>(a.a.in);
  if (row_tiles == 0 || (a.a.wide_chunks > 0 && count_context_chunks(a.a) > a.a.wide_chunks)) return wait_for_previous();
  if (threadIdx.x == 0) {
    pipe.init(S::kConsumerWarps);
    prefetch_map(&a.q);
    prefetch_map(&a.kv);
  }
  wait_for_previous();
  __syncthreads();
  if (threadIdx.x < 128) {
    shrink_registers<S::kProducerRegisters>();
    if (threadIdx.x < 32) produce<S>(a, pipe, tiles, row_tiles);
  } else {
    grow_registers<S::kConsumerRegisters>();
    Consumer<S>{a, pipe, tiles}.run();
  }
#endif
}

template <class S>
bool fits(const AttentionParameters& p) {
  const int64_t rows = int64_t{p.kv.chunks} * p.kv.kv_heads * 2 * p.kv.chunk_tokens;
  const int32_t chunk = p.kv.chunk_tokens;
  return p.activations == DType::bf16 && p.kv.dtype == DType::bf16 && p.head_dim == S::kDh && p.scale_log2 > 0.0f && chunk % 8 == 0 &&
         (S::kKeys % chunk == 0 || chunk % S::kKeys == 0) && rows <= INT32_MAX;
}

template <class S>
void run(CudaContext& context, const AttentionParameters& p, const CudaSite& site) {
  static_assert(128 * (S::kProducerRegisters + S::kGroups * S::kConsumerRegisters) <= 64 * 1024, "registers of a multiprocessor");
  static_assert(S::kKeys <= kMostTileKeys, "what is widened");
  static_assert(S::kThreads == 128 + 32 * S::kConsumerWarps && S::kThreads <= 1024, "warpgroups of a block");
  static_assert(!S::kInTurns || (S::kGroups > 1 && S::kGroups <= kTail - kTurn), "named barriers of the turns");
  constexpr uint64_t kElement = sizeof(__nv_bfloat16), kDh = S::kDh;
  const auto heads = static_cast<uint64_t>(p.heads), tokens = static_cast<uint64_t>(context.capacity.tokens);
  const uint64_t kv_rows = uint64_t{2} * p.kv.chunks * p.kv.kv_heads * p.kv.chunk_tokens;
  WgmmaParameters a{};
  a.a = p;
  a.box_tokens = std::min(p.kv.chunk_tokens, int32_t{S::kKeys});
  a.q = swizzled_tensor_map(p.q, {{kDh, kElement, kPanelWidth}, {heads, kDh * kElement, 1}, {tokens, heads * kDh * kElement, S::kRows}},
                            site);
  a.kv = swizzled_tensor_map(static_cast<const std::byte*>(p.kv.data) + p.layer * kv_rows * kDh * kElement,
                             {{kDh, kElement, kPanelWidth}, {kv_rows, kDh * kElement, static_cast<uint32_t>(a.box_tokens)}}, site);
  a.next_item = attention_counters(context.scratch);
  a.blocks_done = a.next_item + 1;
  a.fault = context.fault;
  const int64_t items = (int64_t{context.capacity.tokens} / S::kRows + context.capacity.sequences) * p.heads;
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(items, context.multiprocessors));
  launch_with({context.dependent_launch}, site, prefill_wgmma_kernel<S>, dim3(blocks), dim3(S::kThreads), S::kSharedBytes, context.stream,
              a);
}

template <class S>
constexpr AttentionVariant variant(const char* name) {
  return {name, fits<S>, run<S>};
}

// The first that fits is the one that is used.
constexpr AttentionVariant kVariants[] = {
    variant<Shape<128, 2, 128, 2, true>>("128 rows, 128 keys x 2, in turns"),
    variant<Shape<128, 2, 128, 2, false>>("128 rows, 128 keys x 2"),
    variant<Shape<128, 2, 64, 4, true>>("128 rows, 64 keys x 4, in turns"),
    variant<Shape<128, 3, 64, 4, true>>("192 rows, 64 keys x 4, in turns"),
    variant<Shape<64, 2, 128, 4, true>>("128 rows, 128 keys x 4, in turns"),
    variant<Shape<64, 3, 128, 3, true>>("192 rows, 128 keys x 3, in turns"),
};

}  // namespace

const AttentionVariant* attention_wgmma_variants(int& count) {
  count = static_cast<int>(std::size(kVariants));
  return kVariants;
}

bool attention_wgmma_fits(const CudaContext& context, const AttentionParameters& p) {
  if (context.compute_capability != 90 || !compiled_architectures().holds("sm_90a")) return false;
  return std::any_of(std::begin(kVariants), std::end(kVariants), [&](const AttentionVariant& v) { return v.fits(p); });
}

void attention_wgmma(CudaContext& context, const AttentionParameters& p, const CudaSite& site) {
  for (const AttentionVariant& v : kVariants) {
    if (v.fits(p)) return v.run(context, p, site);
  }
  throw_contract("no wgmma kernel for this shape", site);
}

}  // namespace bolide
