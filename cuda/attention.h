// The attention kernels and what they share. attention.cu decides which runs.
#pragma once

#include "cuda/check.h"
#include "cuda/context.h"

namespace bolide {

struct AttentionParameters {
  const void* q;  // [T, H, Dh]
  void* out;      // [T, H, Dh]
  DType activations;
  KvView kv;
  StepInputs in;
  float scale_log2;  // scale * log2(e): scores are kept in the log2 domain
  int32_t window, layer, heads, kv_heads, head_dim;
  int32_t chunk_shift;  // log2(C), or -1 where C is no power of two
  // Chunks that widened contexts have room for (kernels/attention_widen.cu). 0: K and V are read as the cache holds them. Otherwise
  // attention_wgmma, whose kv and chunk_ids are the widened ones, takes steps whose contexts fit there, and attention_mma the others.
  int32_t wide_chunks;
};

#if defined(__CUDACC__)
// Chunk and offset of a position of sequence s.
struct KvPlace {
  int chunk, offset;
};
__device__ inline KvPlace kv_place(const AttentionParameters& p, const int32_t* chunks, int position) {
  if (p.chunk_shift >= 0) return {chunks[position >> p.chunk_shift], position & (p.kv.chunk_tokens - 1)};
  const int index = position / p.kv.chunk_tokens;
  return {chunks[index], position - index * p.kv.chunk_tokens};
}
// First position that the row at `position` sees.
__device__ inline int first_visible(const AttentionParameters& p, int position) {
  return p.window > 0 ? max(0, position + 1 - p.window) : 0;
}

struct Tile {
  int sequence, first_row, rows;  // rows == 0: no such tile
};

// How many tiles of kRows rows find_tile() knows. Called by whole warps; every lane gets the result.
template <int kRows>
__device__ int count_tiles(const StepInputs& in) {
  int tiles = 0;
  for (int s = threadIdx.x & 31; s < in.counts->sequences; s += 32) {
    const int rows = in.query_offsets[s + 1] - in.query_offsets[s];
    tiles += rows > 1 ? (rows + kRows - 1) / kRows : 0;
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) tiles += __shfl_xor_sync(0xffffffffu, tiles, offset);
  return tiles;
}

// Of things that sequences have, in order: the sequence that has number `index`, and its number there. sequence -1: there is none.
struct Dealt {
  int sequence, index;
};
// count(s) of them are sequence s's; lane s % 32 asks last for the sequence that is found. Called by whole warps; every lane gets the
// result.
template <class Count>
__device__ Dealt find_dealt(const StepInputs& in, int index, const Count& count) {
  const int lane = threadIdx.x & 31, sequences = in.counts->sequences;
  for (int base = 0; base < sequences; base += 32) {
    const int s = base + lane, own = s < sequences ? count(s) : 0;
    int before = own;
#pragma unroll
    for (int offset = 1; offset < 32; offset <<= 1) {
      const int left = __shfl_up_sync(0xffffffffu, before, offset);
      if (lane >= offset) before += left;
    }
    before -= own;  // exclusive prefix
    const unsigned owner = __ballot_sync(0xffffffffu, index >= before && index < before + own);
    if (owner) {
      const int source = __ffs(owner) - 1;
      return {base + source, index - __shfl_sync(0xffffffffu, before, source)};
    }
    index -= __shfl_sync(0xffffffffu, before + own, 31);
  }
  return {-1, 0};
}

// Tiles of kRows rows are dealt to the sequences with at least two rows, in order. Called by whole warps; every lane gets the result.
template <int kRows>
__device__ Tile find_tile(const StepInputs& in, int index) {
  int rows = 0, first = 0;
  const Dealt tile = find_dealt(in, index, [&](int s) {
    first = in.query_offsets[s];
    rows = in.query_offsets[s + 1] - first;
    return rows > 1 ? (rows + kRows - 1) / kRows : 0;
  });
  if (tile.sequence < 0) return {0, 0, 0};
  const int source = tile.sequence & 31, skipped = tile.index * kRows;
  return {tile.sequence, __shfl_sync(0xffffffffu, first, source) + skipped, min(kRows, __shfl_sync(0xffffffffu, rows, source) - skipped)};
}

// Chunks of sequence s that kernels of many rows read, from the first on; none where it brings less than two rows. They read whole tiles
// of at most kMostTileKeys keys, the first of which may begin before what is visible.
constexpr int kMostTileKeys = 128;
struct Context {
  int first_chunk, chunks, length;
};
__device__ inline Context context_of(const AttentionParameters& p, int s) {
  const int rows = p.in.query_offsets[s + 1] - p.in.query_offsets[s], length = p.in.kv_lengths[s];
  if (rows < 2) return {0, 0, length};
  const int first = first_visible(p, length - rows) / kMostTileKeys * kMostTileKeys / p.kv.chunk_tokens;
  return {first, (length + p.kv.chunk_tokens - 1) / p.kv.chunk_tokens - first, length};
}
// Of the whole step. Called by whole warps; every lane gets the result.
__device__ inline int count_context_chunks(const AttentionParameters& p) {
  int chunks = 0;
  for (int s = threadIdx.x & 31; s < p.in.counts->sequences; s += 32) chunks += context_of(p, s).chunks;
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) chunks += __shfl_xor_sync(0xffffffffu, chunks, offset);
  return chunks;
}
#endif

// How a set of rows is spread over blocks by the split kernel.
struct SplitPlan {
  int32_t block_heads;  // query heads of one kv head that a block takes at once: 1, 2 or 4
  int32_t head_groups;  // blocks per kv head
  int32_t splits;       // blocks per row and head group at most
};
SplitPlan split_plan(int multiprocessors, int32_t rows, int32_t heads, int32_t kv_heads);

// Where norm_qkv left its product to the attention kernel: q and the step's own K and V are made there. product.product null: they are in
// the buffers already.
struct FreshRows {
  QkvProduct product;
  DeviceFault* fault;
};

// Rows one by one, the KV length split over blocks. single_rows: only sequences with exactly one row, one grid slice per sequence
// (rows = capacity in sequences); otherwise every row (rows = capacity in tokens).
void attention_decode(CudaContext& context, const AttentionParameters& p, int32_t rows, bool single_rows, const CudaSite& site);
// The same on the tensor cores, where the dtypes, the head size and the chunk size suit.
bool attention_rows_fits(const AttentionParameters& p);
void attention_rows(CudaContext& context, const AttentionParameters& p, int32_t rows, bool single_rows, const FreshRows& fresh,
                    const CudaSite& site);
// Blocks per row and kv head of attention_rows at most.
int row_splits(int multiprocessors, int32_t rows, int32_t kv_heads);
// Rows that are their sequence's only one in the step, on Hopper: one launch that reads K and V once, in equal shares, also of fp8.
bool attention_many_fits(const CudaContext& context, const AttentionParameters& p);
void attention_many(CudaContext& context, const AttentionParameters& p, const CudaSite& site);
// Bytes of CudaScratch::attention that it needs; of arrivals, an entry a multiprocessor.
size_t attention_many_scratch(int multiprocessors, int32_t heads, int32_t kv_heads, int32_t head_dim);
// Tiles of query rows, of sequences with at least two rows.
void attention_prefill(CudaContext& context, const AttentionParameters& p, const CudaSite& site);
// The same on the tensor cores, where the dtypes and the head size suit.
bool attention_mma_fits(const AttentionParameters& p);
void attention_mma(CudaContext& context, const AttentionParameters& p, const CudaSite& site);
// The same on Hopper's warpgroup tensor cores, where device, build, dtypes, head size and chunk size suit.
bool attention_wgmma_fits(const CudaContext& context, const AttentionParameters& p);
void attention_wgmma(CudaContext& context, const AttentionParameters& p, const CudaSite& site);

// e4m3 contexts as bfloat16, for attention_wgmma. attention_widened: p as that kernel is to read them, from CudaScratch::wide; its
// wide_chunks is 0 where nothing is to be widened or there is no room. attention_widen: writes them there, p as the cache holds them.
AttentionParameters attention_widened(const CudaContext& context, const AttentionParameters& p);
void attention_widen(CudaContext& context, const AttentionParameters& p, const AttentionParameters& wide, const CudaSite& site);

// One way to cut that kernel's work, for measuring them beside each other.
struct AttentionVariant {
  const char* name;
  bool (*fits)(const AttentionParameters& p);
  void (*run)(CudaContext& context, const AttentionParameters& p, const CudaSite& site);
};
const AttentionVariant* attention_wgmma_variants(int& count);

// Two counters for kernels that deal out work by themselves, zero between launches: the end of `arrivals`.
constexpr int kAttentionCounters = 2;
inline int32_t* attention_counters(const CudaScratch& scratch) {
  return scratch.arrivals + scratch.arrivals_bytes / sizeof(int32_t) - kAttentionCounters;
}

}  // namespace bolide
