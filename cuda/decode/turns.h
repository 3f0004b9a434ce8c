// Which blocks of positions of the sequences a thread block owns, and the order in which it goes over them. C++17, for host and device.
//
// In a layer they stream in rounds, of which each has one of every row that has one left: so the warps of all rows have work at once. A
// row's rounds begin with what it sees: rows keep step whatever their lengths under a window, and one that has no more drops out.
#pragma once

#include <cuda_runtime.h>

#include "cuda/decode/parameters.h"

namespace bolide::decode {

// How much a block owns of a step's contexts.
template <int kRows>
struct OwnCounts {
  int most;                                   // blocks of a row
  int first[kRows + 1];                       // in OwnBlocks::offset, by row
  int context[kRows];                         // positions before the new one
  int slot_chunk[kRows], slot_offset[kRows];  // where that one's K and V go
};
// And where it lies. kGoesOn: in a kernel that goes on by itself.
template <int kRows, bool kGoesOn>
struct OwnBlocks : OwnCounts<kRows> {
  int offset[max_own_blocks(kRows, kGoesOn)];  // of a block's first K row within a layer's part of the cache, in kPositions rows
};

// A row's blocks of positions: this, and every kGroup further, the new one's included. kGroup: thread blocks that share a key/value head,
// or a row's part of it.
template <int kGroup = kGroupBlocks>
__host__ __device__ constexpr int rank_in_row(int rank, int row) {
  constexpr int kRounds = kGroup < 2 * kMaxRows ? (2 * kMaxRows + kGroup - 1) / kGroup * kGroup : kGroup;  // at least 2 * row
  return (rank + kRounds - 2 * row) % kGroup;
}

// Rows after each other. positions: in a block of them.
template <int kGroup = kGroupBlocks, int kRows>
__host__ __device__ inline void add_row(OwnCounts<kRows>& own, int rank, int row, int context, int positions) {
  const int count = (context / positions + 1 - rank_in_row<kGroup>(rank, row) + kGroup - 1) / kGroup;
  own.context[row] = context;
  own.first[row + 1] = own.first[row] + count;
  own.most = own.most > count ? own.most : count;
}

// A row that the block has no part of.
template <int kRows>
__host__ __device__ inline void skip_row(OwnCounts<kRows>& own, int row, int context) {
  own.context[row] = context;
  own.first[row + 1] = own.first[row];
}

// First position that a row at position `context` sees.
__host__ __device__ inline int first_seen(int context, int window) { return window > 0 && context >= window ? context + 1 - window : 0; }

// A row's place in a round. Producer and workers go by it: both have to meet the same blocks in the same order.
struct Turn {
  int from;      // first position that the row sees
  int at;        // the block's place in OwnBlocks::offset
  int left;      // blocks of the row behind it; below 0: the row has dropped out
  int first;     // the block's first position
  bool present;  // false also where the row sees nothing of the block

  // True in one round for each row, also one that has no block here: nothing of it comes later.
  __host__ __device__ bool ends_row(int round) const { return left == 0 || (round == 0 && left < 0); }
};
template <int kGroup = kGroupBlocks, int kRows>
__host__ __device__ inline Turn turn_of(const OwnCounts<kRows>& own, int rank, int window, int round, int row, int positions) {
  Turn turn;
  turn.from = first_seen(own.context[row], window);
  const int seen = turn.from / positions, j = seen / kGroup + round, block = rank_in_row<kGroup>(rank, row) + j * kGroup;
  turn.at = own.first[row] + j;
  turn.left = own.first[row + 1] - turn.at - 1;
  turn.first = block * positions;
  turn.present = turn.left >= 0 && block >= seen;
  return turn;
}
// At least as many as any row has.
template <int kGroup = kGroupBlocks, int kRows>
__host__ __device__ inline int rounds_of(const OwnCounts<kRows>& own, int window, int positions) {
  const int in_window = (window / positions + 1) / kGroup + 2;
  return window > 0 && in_window < own.most ? in_window : own.most;
}

}  // namespace bolide::decode
