// Attention of single rows of many sequences on Hopper: the decode path of steps with more rows than the fused kernels take. Bound by
// reading K and V once: out[t, h] = softmax(scale * q[t, h] . K) V for rows that are their sequence's only one in the step.
//
// One block a multiprocessor. The line of all tiles of K and V (device/kv_tiles.cuh) is cut into a share for each block, by every block for
// itself from the step's lengths. Of a block's warps one is the producer: bulk copies bring a tile's K and V, and its q, into a ring of
// stages. Each stage has a warp that takes whole tiles (device/tile_attention.cuh) and leaves (m, l, o) of them in shared memory.
// The last warp, the merger, adds tiles up to parts and parts to the unit's result, always in their order, and stores it. The parts of a
// unit that is cut between blocks go to scratch; the block that is the last to count its parts in `arrivals` adds them in their order and
// sets the counter back to zero (one that finds all others counted beforehand keeps its own parts). So a row's bits depend on its own
// sequence alone.
// Where a half of a step is enqueued (halves.h), blocks are smaller, ask for K and V at a pace and for few tiles at once, and let the next
// kernel start late. K and V of earlier steps and the step's inputs are read before the kernels in front have ended (device/dependent.cuh);
// the tile that holds the row's own position, and q, are not.
//
// Layouts: q, out [T, H, Dh] bf16; K, V as kv_cache.h says, bf16 or e4m3. Scratch: parts [blocks][kMaxParts] of o [group][Dh], then
// (m, l) [group]. Shared memory: Shared below.
// Preconditions: Dh 64 or 128; C a power of two of at least 16; H / Hkv <= 8; compute capability 9.0.
// Bytes moved: per row 2 * n * Hkv * Dh * size(KV), + 2 Dh (H / Hkv) for each tile from L2, + the scratch of at most one unit a block.
#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <algorithm>

#include "cuda/attention.h"
#include "cuda/device/dependent.cuh"
#include "cuda/device/kv.cuh"
#include "cuda/device/kv_tiles.cuh"
#include "cuda/device/launch.h"
#include "cuda/device/part_merger.cuh"
#include "cuda/device/pipeline.cuh"
#include "cuda/device/tile_attention.cuh"

namespace bolide {
namespace {

using bf16 = __nv_bfloat16;

constexpr int kMaxStages = 6, kMaxWarps = kMaxStages + 2;  // two warps a quarter of the multiprocessor: 255 registers a thread
constexpr size_t kSharedLimit = 227 * 1024;
// Beside kernels of the step's other half: two such blocks have room on a multiprocessor, or one and a product's, in its shared memory and
// in the registers of each of its quarters, to which warps are dealt out: two warps of 128 registers take half of one. (Bounds of so many
// threads keep the compiler to 128.)
constexpr size_t kSharedBeside = 113 * 1024;
constexpr int kBoundsBeside = 512;
// Tiles that are under way at once beside the other half: as many as keep memory busy. What is asked for beyond that only makes longer the
// queue in which that half's products wait.
constexpr int kUnderWayBeside = 2;
constexpr int kMaxSequences = 4096;  // so that the table of tiles leaves room for the ring

// Floats of a part's record: o [group][Dh], (m, l) [group].
__host__ __device__ constexpr int record_floats(int group, int head_dim) { return (group * (head_dim + 2) + 3) / 4 * 4; }

struct ManyParameters {
  AttentionParameters a;
  int32_t group;
  int32_t stages;  // of the ring, and warps that work on them
  int32_t sequence_capacity;
  bool beside;   // the step's other half runs at the same time
  int32_t pace;  // clocks from one KB of K and V to the next: a little slower than memory goes, for that half's products; 0: none
  float* parts;
  int32_t* arrivals;
  DeviceFault* fault;
};

// stages [stages] of K, V and q; a record for each; visible positions of a stage's tile; barriers; the sequences' tables (kv_tiles.cuh).
struct Shared {
  unsigned char* tiles;
  float* records;
  int2* visible;
  int *before, *tables;
  uint64_t *full, *empty, *record_full, *record_empty;
  int stage_bytes, record;
  size_t bytes;
  __host__ __device__ Shared(unsigned char* base, const ManyParameters& p, int tile_bytes) {
    stage_bytes = 2 * tile_bytes + p.group * p.a.head_dim * 2;
    record = record_floats(p.group, p.a.head_dim);
    tiles = base;
    records = reinterpret_cast<float*>(tiles + p.stages * stage_bytes);
    full = reinterpret_cast<uint64_t*>(records + p.stages * record);
    empty = full + kMaxStages;
    record_full = empty + kMaxStages;
    record_empty = record_full + kMaxStages;
    visible = reinterpret_cast<int2*>(record_empty + kMaxStages);
    before = reinterpret_cast<int*>(visible + kMaxStages);
    tables = before + p.sequence_capacity + 1;
    bytes = static_cast<size_t>(reinterpret_cast<unsigned char*>(tables + p.sequence_capacity) - base);
  }
  __device__ unsigned char* stage(int i) const { return tiles + i * stage_bytes; }
  __device__ float2* ml(int stage, int group, int head_dim) const {
    return reinterpret_cast<float2*>(records + stage * record + group * head_dim);
  }
};

template <class KV, int kDh, bool kBeside>
struct ManyBlock {
  using Worker = TileAttention<KV, kDh>;
  static constexpr int kHeadDim = kDh;
  static constexpr bool kRunsBeside = kBeside;
  const ManyParameters& p;
  const AttentionParameters& a = p.a;
  const Shared shared;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  TileLine line{};
  int first = 0, end = 0;  // the block's share of the line

  __device__ ManyBlock(const ManyParameters& parameters, unsigned char* base) : p(parameters), shared(base, parameters, Worker::kBytes) {}

  __device__ void run() {
    __shared__ int warp_sums[kMaxWarps];
    if (!kBeside) let_next_start();
    if (threadIdx.x == 0) {
      for (int i = 0; i < p.stages; ++i) {
        init_barrier(shared.full[i], 1), init_barrier(shared.empty[i], 1);
        init_barrier(shared.record_full[i], 1), init_barrier(shared.record_empty[i], 1);
      }
      publish_barriers();
    }
    line = lay_out_tiles(a, p.sequence_capacity, shared.before, shared.tables, warp_sums);
    const int cut = line.cut(blockIdx.x + (lane & 1), gridDim.x);
    first = __shfl_sync(kAllLanes, cut, 0);
    end = __shfl_sync(kAllLanes, cut, 1);
    if (warp < p.stages)
      work();
    else if (warp == p.stages)
      produce();
    else
      merge_all();
  }

  // ---- The producer.

  // A tile as the producer needs it; each lane describes one of 32, so that little is left to be done between two tiles: beside the step's
  // other half, how soon one is asked for behind another is what bounds the stream (docs/performance.md).
  struct Copy {
    int kv_head, low, high, offset;  // visible positions [low, high) of the tile; offset: of the tile in its chunk
    int chunks[kTileTokens / 16];    // of the tile
    const void* k;                   // of the tile, if it is whole
    const bf16* q;
    bool whole;   // V lies behind K, and all of both is visible
    bool newest;  // holds the row's own position
  };

  __device__ Copy describe(int at) const {
    Copy c{};
    if (at >= end) return c;
    const TilePlace place = line.find(at);
    const VisibleRange range = visible_range(a, place.sequence);
    const int base = (range.first_tile() + place.tile) * kTileTokens, table = shared.tables[place.sequence];
    c.kv_head = place.kv_head;
    c.low = max(range.begin - base, 0);
    c.high = min(range.end - base, kTileTokens);
    c.newest = base + c.high == range.end;
    c.offset = base & (a.kv.chunk_tokens - 1);
#pragma unroll
    for (int i = 0; i < kTileTokens / 16; ++i) {
      const int position = base + (i << a.chunk_shift);
      c.chunks[i] = (i << a.chunk_shift) < kTileTokens && position < range.end ? a.in.chunk_ids[table + (position >> a.chunk_shift)] : 0;
    }
    c.whole = a.kv.chunk_tokens == kTileTokens && c.high - c.low == kTileTokens;
    c.k = kv_row<KV>(a.kv, a.layer, c.chunks[0], c.kv_head, false, 0);
    const int64_t row = a.in.query_offsets[place.sequence];
    c.q = static_cast<const bf16*>(a.q) + (row * a.heads + c.kv_head * p.group) * kDh;
    return c;
  }

  // Asks for K and V of the lane's tile, which is a whole chunk, and announces q's bytes too.
  __device__ void copy_whole(const Copy& mine, int stage, uint64_t policy) const {
    shared.visible[stage] = make_int2(0, kTileTokens);
    arrive_expecting(shared.full[stage], 2 * Worker::kBytes + q_bytes());
    copy_bytes(shared.stage(stage), mine.k, 2 * Worker::kBytes, shared.full[stage], policy);
  }
  // The same of the tile that lane `source` has described, whatever it is; called by all lanes.
  __device__ void copy_pieces(const Copy& mine, int source, int stage, uint64_t policy) const {
    const int low = __shfl_sync(kAllLanes, mine.low, source), high = __shfl_sync(kAllLanes, mine.high, source);
    const int offset = __shfl_sync(kAllLanes, mine.offset, source), kv_head = __shfl_sync(kAllLanes, mine.kv_head, source);
    const int part = lane >> 1, is_v = lane & 1, part_tokens = min(a.kv.chunk_tokens, kTileTokens);
    int chunk = 0;
#pragma unroll
    for (int i = 0; i < kTileTokens / 16; ++i) {
      const int id = __shfl_sync(kAllLanes, mine.chunks[i], source);
      if (i == part) chunk = id;
    }
    if (lane == 0) {
      shared.visible[stage] = make_int2(low, high);
      arrive_expecting(shared.full[stage], (high - low) * 2 * Worker::kRowBytes + q_bytes());
    }
    __syncwarp();
    const int from = max(low, part * part_tokens), past = min(high, (part + 1) * part_tokens);
    if (part * part_tokens >= kTileTokens || from >= past) return;
    copy_bytes(shared.stage(stage) + is_v * Worker::kBytes + from * Worker::kRowBytes,
               kv_row<KV>(a.kv, a.layer, chunk, kv_head, is_v, offset + from - part * part_tokens), (past - from) * Worker::kRowBytes,
               shared.full[stage], policy);
  }
  __device__ int q_bytes() const { return p.group * kDh * 2; }
  __device__ void copy_q(const Copy& tile, int stage, uint64_t policy) const {
    copy_bytes(shared.stage(stage) + 2 * Worker::kBytes, tile.q, q_bytes(), shared.full[stage], policy);
  }

  __device__ void produce() const {
    const uint64_t policy = l2_policy(L2Use::no_more);
    const int most = min(kUnderWayBeside, p.stages);
    int arriving = 0, under_way = 0;  // the stage of the first tile that may be under way, and how many may be
    uint32_t arriving_parity = 0, due = clock32();
    int stage = 0, early = 0;  // early: tiles asked for before the kernels in front have ended
    uint32_t parity = 1;
    bool waited = false;
    const auto wait_in_front = [&](const Copy& mine) {
      wait_for_previous();
      waited = true;
      if (lane < early) copy_q(mine, lane, policy);
    };
    Copy next = describe(first + lane);
    for (int base = first; base < end; base += 32) {
      const Copy mine = next;
      const unsigned wholes = __ballot_sync(kAllLanes, mine.whole), newest = __ballot_sync(kAllLanes, mine.newest);
      const int count = min(32, end - base);
      for (int i = 0; i < count; ++i) {
        if (i == 2) next = describe(base + 32 + lane);  // early: it reads tables in memory
        if (!waited && (i == p.stages || (newest >> i & 1))) wait_in_front(mine);
        wait_at_leisure(shared.empty[stage], parity, p.fault);
        if (kBeside) {
          for (; waited && under_way >= most; --under_way) {
            wait(shared.full[arriving], arriving_parity, p.fault);
            if (++arriving == p.stages) arriving = 0, arriving_parity ^= 1;
          }
          ++under_way;
          if (p.pace > 0) due = wait_until(due);
        }
        if (wholes >> i & 1) {
          if (lane == i) {
            copy_whole(mine, stage, policy);
            if (waited) copy_q(mine, stage, policy);
          }
        } else {
          copy_pieces(mine, i, stage, policy);
          if (waited && lane == i) copy_q(mine, stage, policy);
        }
        if (!waited) ++early;
        __syncwarp();
        if (++stage == p.stages) stage = 0, parity ^= 1;
      }
      if (!waited) wait_in_front(mine);
    }
    if (!waited) wait_for_previous();
    // Not before: blocks of the next kernel would take room from the other half's while they wait for this one.
    if (kBeside) let_next_start();
  }

  __device__ static uint32_t clock32() { return static_cast<uint32_t>(clock()); }
  // Until a tile more may be asked for; returns when the next may be. What is late may catch up over a tile.
  __device__ uint32_t wait_until(uint32_t due) const {
    const uint32_t tile = 2 * Worker::kBytes / 1024 * p.pace;  // clocks; of a tile of which less is visible, too
    uint32_t now;
    do now = clock32();
    while (static_cast<int32_t>(now - due) < 0);
    return static_cast<int32_t>(now - due) > static_cast<int32_t>(tile) ? now : due + tile;
  }

  // ---- The workers.

  __device__ void work() {
    Worker worker;
    uint32_t parity = 0;
    for (int at = first + warp; at < end; at += p.stages) {
      wait_at_leisure(shared.full[warp], parity, p.fault);
      const int2 visible = shared.visible[warp];
      worker.run(shared.stage(warp), p.group, visible.x, visible.y, a.scale_log2);
      __syncwarp();
      if (lane == 0) arrive(shared.empty[warp]);
      wait(shared.record_empty[warp], parity ^ 1, p.fault);
      worker.store(shared.records + warp * shared.record, shared.ml(warp, p.group, kDh), p.group);
      __syncwarp();
      if (lane == 0) arrive(shared.record_full[warp]);
      parity ^= 1;
    }
  }

  // ---- The merger.

  __device__ void merge_all() const {
    const int vectors = (p.group * kDh + 127) / 128;  // of a lane
    if (vectors == 1)
      PartMerger<ManyBlock, 1>{*this}.merge();
    else if (vectors == 2)
      PartMerger<ManyBlock, 2>{*this}.merge();
    else if (vectors <= 4)
      PartMerger<ManyBlock, 4>{*this}.merge();
    else
      PartMerger<ManyBlock, kMaxGroup * kDh / 128>{*this}.merge();
  }
};

template <class KV, int kDh, bool kBeside>
__global__ void __launch_bounds__(kBeside ? kBoundsBeside : kMaxWarps * 32, 1)
    attention_many_kernel(const __grid_constant__ ManyParameters p) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) unsigned char base[];
  ManyBlock<KV, kDh, kBeside>(p, base).run();
#endif
}

template <class KV, int kDh>
void launch_many(CudaContext& context, ManyParameters& p, const CudaSite& site) {
  constexpr int kTileBytes = TileAttention<KV, kDh>::kBytes;
  p.stages = 0;
  const Shared fixed(nullptr, p, kTileBytes);
  constexpr size_t kStatic = 1024;  // warp_sums, and what the system keeps of a block's shared memory
  const size_t stage_bytes = static_cast<size_t>(fixed.stage_bytes) + static_cast<size_t>(fixed.record) * sizeof(float);
  p.stages = static_cast<int32_t>(((p.beside ? kSharedBeside : kSharedLimit) - kStatic - fixed.bytes) / stage_bytes);
  p.stages = std::min(p.stages, kMaxStages);
  const LaunchOptions options{context.dependent_launch};
  launch_with(options, site, p.beside ? attention_many_kernel<KV, kDh, true> : attention_many_kernel<KV, kDh, false>,
              dim3(context.multiprocessors), dim3((p.stages + 2) * 32), Shared(nullptr, p, kTileBytes).bytes, context.stream, p);
}

}  // namespace

bool attention_many_fits(const CudaContext& context, const AttentionParameters& a) {
  return context.dependent_launch && context.capacity.sequences <= kMaxSequences && a.activations == DType::bf16 &&
         (a.kv.dtype == DType::bf16 || a.kv.dtype == DType::f8) && (a.head_dim == 64 || a.head_dim == 128) && a.chunk_shift >= 4 &&
         a.heads / a.kv_heads <= kMaxGroup;
}

size_t attention_many_scratch(int multiprocessors, int32_t heads, int32_t kv_heads, int32_t head_dim) {
  const int group = heads / kv_heads;
  if (group > kMaxGroup || (head_dim != 64 && head_dim != 128)) return 0;
  return static_cast<size_t>(multiprocessors) * kMaxParts * static_cast<size_t>(record_floats(group, head_dim)) * sizeof(float);
}

void attention_many(CudaContext& context, const AttentionParameters& a, const CudaSite& site) {
  const size_t bytes = attention_many_scratch(context.multiprocessors, a.heads, a.kv_heads, a.head_dim);
  require_contract(bytes <= context.scratch.attention_bytes, "reserve() was not called for this shape", site);
  const bool wide = a.kv.dtype == DType::bf16, beside = context.part != StepPart::whole;
  // With e4m3 two tiles under way are half as many bytes and need no pace besides (docs/performance.md).
  const int32_t pace = beside && wide ? context.copy_pace * 9 / 8 : 0;
  ManyParameters p{a,
                   a.heads / a.kv_heads,
                   0,
                   context.capacity.sequences,
                   beside,
                   pace,
                   context.scratch.attention,
                   context.scratch.arrivals,
                   context.fault};
  if (a.head_dim == 128)
    wide ? launch_many<bf16, 128>(context, p, site) : launch_many<__nv_fp8_e4m3, 128>(context, p, site);
  else
    wide ? launch_many<bf16, 64>(context, p, site) : launch_many<__nv_fp8_e4m3, 64>(context, p, site);
}

}  // namespace bolide
