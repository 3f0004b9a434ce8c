// All of K and V that the single rows of a step see, as one line of tiles, and where that line is cut between blocks.
//
// A unit is a kv head of a sequence that brings exactly one row; its tiles are kTileTokens positions each, from the tile of the first
// visible position on. Units lie on the line by sequence, then by kv head. Cuts fall between parts, which are so many tiles of a unit as
// follows from its own length alone: what is added up within a part, and in which order parts are, does not depend on the other sequences,
// nor on the number of blocks.
#pragma once

#include "cuda/attention.h"

namespace bolide {

constexpr int kTileTokens = 64;
constexpr int kMaxParts = 32;  // of a unit

struct TilePlace {
  int sequence, kv_head;
  int tile;   // of the unit
  int tiles;  // that the unit has
  int begin;  // of the unit, on the line
};

// Tiles of a part of a unit.
__device__ inline int part_tiles(int tiles) {
  int part = 2;
  while (tiles > part * kMaxParts) part *= 2;
  return part;
}

struct TileLine {
  const int* before;  // [S + 1] tiles of one kv head of the sequences in front
  int sequences, kv_heads;

  __device__ int tiles() const { return before[sequences] * kv_heads; }

  // 0 <= at < tiles().
  __device__ TilePlace find(int at) const {
    int low = 0, high = sequences;  // before[low] * kv_heads <= at < before[high] * kv_heads
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (before[middle] * kv_heads <= at)
        low = middle;
      else
        high = middle;
    }
    const int first = before[low] * kv_heads, tiles = before[low + 1] - before[low], kv_head = (at - first) / tiles;
    const int begin = first + kv_head * tiles;
    return {low, kv_head, at - begin, tiles, begin};
  }

  // The first tile of the unit behind, which there must be.
  __device__ TilePlace next(const TilePlace& unit) const {
    TilePlace place{unit.sequence, unit.kv_head + 1, 0, unit.tiles, unit.begin + unit.tiles};
    if (place.kv_head == kv_heads) {
      place.kv_head = 0;
      do {
        ++place.sequence;
        place.tiles = before[place.sequence + 1] - before[place.sequence];
      } while (place.tiles == 0);
    }
    return place;
  }

  // Tiles of a block's share before cuts are rounded: even, so that units of one length, as many as there are blocks or fewer, stay whole.
  __device__ int share(int blocks) const { return (tiles() + 2 * blocks - 1) / (2 * blocks) * 2; }
  // First tile of `block`'s share of the line; cut(blocks) is the end.
  __device__ int cut(int block, int blocks) const {
    const int all = tiles(), each = share(blocks);
    if (each == 0 || block > all / each || block * each >= all) return all;
    const int at = block * each;
    const TilePlace place = find(at);
    const int part = part_tiles(place.tiles);
    return place.begin + min((place.tile + part / 2) / part * part, place.tiles);
  }

  // A number below `blocks` - 1 for a unit that is cut, other than any other such unit's: of the block whose share ends at the first cut.
  __device__ int cut_unit(const TilePlace& unit, int blocks) const {
    const int first = unit.begin + part_tiles(unit.tiles) / 2, each = share(blocks);
    return (first + each - 1) / each - 1;
  }
};

// Positions that the row of a sequence sees, [begin, end): none unless the step brings exactly one row of it.
struct VisibleRange {
  int begin, end;
  __device__ int first_tile() const { return begin / kTileTokens; }
  __device__ int tiles() const { return (end + kTileTokens - 1) / kTileTokens - first_tile(); }
};
__device__ inline VisibleRange visible_range(const AttentionParameters& p, int sequence) {
  const int first = p.in.query_offsets[sequence], past = p.in.query_offsets[sequence + 1], length = p.in.kv_lengths[sequence];
  if (past - first != 1) return {0, 0};
  return {first_visible(p, length - 1), length};
}

// Fills before[0 .. S] and, with where each sequence's chunks are listed, tables[0 .. S - 1] in shared memory; called by all threads of a
// block of whole warps. capacity: entries that the step's arrays have room for. warp_sums: shared, one for each warp.
__device__ inline TileLine lay_out_tiles(const AttentionParameters& p, int capacity, int* before, int* tables, int* warp_sums) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  int carried = 0, sequences = 0;
  for (int base = 0; base < capacity; base += blockDim.x) {
    const int s = base + threadIdx.x;
    VisibleRange range{0, 0};
    int table = 0;
    if (s < capacity) range = visible_range(p, s), table = p.in.chunk_offsets[s];  // before it is known whether s is one of the step's
    sequences = p.in.counts->sequences;
    int sum = s < sequences ? range.tiles() : 0;
#pragma unroll
    for (int offset = 1; offset < 32; offset <<= 1) {
      const int left = __shfl_up_sync(0xffffffffu, sum, offset);
      if (lane >= offset) sum += left;
    }
    if (lane == 31) warp_sums[warp] = sum;
    __syncthreads();
    int all = 0;
    for (int w = 0; w < static_cast<int>(blockDim.x >> 5); ++w) {
      if (w == warp) sum += carried + all;
      all += warp_sums[w];
    }
    if (s < sequences) before[s + 1] = sum, tables[s] = table;
    carried += all;
    __syncthreads();  // before warp_sums are written again
    if (base + static_cast<int>(blockDim.x) >= sequences) break;
  }
  if (threadIdx.x == 0) before[0] = 0;
  __syncthreads();
  return {before, sequences, p.kv_heads};
}

}  // namespace bolide
