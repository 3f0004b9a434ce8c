// Sizes of a model in units of the decode kernel, and which rows of every matrix a block makes.
//
// Where vectors are multiples of 1,024 and there are eight key/value heads, all blocks have the same number of octets of rows, and all
// stages are full ("whole"). Other shapes share rows out in twos, fours or eights (the words of the edges bind as many together); a block's
// last octet may have fewer rows than eight, and a row's last stage fewer columns than a full one, or all of its stages have.
#pragma once

#include "cuda/decode/parameters.h"

namespace bolide::decode {

constexpr int kRowBytes = kStageColumns * 2, kStageBytes = 8 * kRowBytes;

__host__ __device__ constexpr int max_of(int a, int b) { return a > b ? a : b; }
__host__ __device__ constexpr int min_of(int a, int b) { return a < b ? a : b; }
__host__ __device__ constexpr int octets_of(int rows) { return (rows + 7) / 8; }

// How rows of k columns lie in stages: in as few as hold them, all alike if warps can share them out so, else the last one narrower.
template <int k>
struct Columns {
  static_assert(k % 64 == 0);
  static constexpr int kAll = k, kStages = (k + kStageColumns - 1) / kStageColumns;
  static constexpr int kWidth = kStages == 1 || k % (128 * kStages) == 0 ? k / kStages : kStageColumns;  // of all stages but the last
  static constexpr bool kWhole = k % kStageColumns == 0;
  // Bytes from a row to the next: rows of one stage lie there as they do in memory.
  static constexpr int kPitch = kStages == 1 ? 2 * k : kRowBytes;
  __host__ __device__ static constexpr int width(int stage) { return stage + 1 < kStages ? kWidth : k - (kStages - 1) * kWidth; }
  // Whether columns 32 piece .. + 31 of the warp's share of a stage are there.
  __host__ __device__ static constexpr bool holds(int stage, int warp, int piece) {
    return kWhole || 128 * warp + (k % 128 != 0 ? 32 * piece : 0) < width(stage);
  }
};

// D, query heads, key/value heads, elements of a head, F.
template <int kD_, int kHeads, int kKvHeads_, int kHeadDim_, int kF_>
struct Shape {
  static constexpr int kD = kD_, kQ = kHeads * kHeadDim_, kF = kF_, kKvHeads = kKvHeads_, kHeadDim = kHeadDim_;
  using HiddenColumns = Columns<kD>;
  using QueryColumns = Columns<kQ>;
  using MlpColumns = Columns<kF>;
  static constexpr bool kWhole = HiddenColumns::kWhole && QueryColumns::kWhole && MlpColumns::kWhole && kKvHeads == kHeadGroups;
  // Stages of a row, which in whole shapes are also the octets that each block has of so many rows.
  static constexpr int kHidden = HiddenColumns::kStages, kQueries = QueryColumns::kStages, kMlp = MlpColumns::kStages;
  // Stages that a product has in registers at once, at most. Beside longer vectors more of them do not stay there; and a warp's work on a
  // stage is a tenth of what its copy takes, so few will do (measured on an H100, docs/performance.md).
  static constexpr int kInRegisters = !kWhole ? 2 : kHidden == 1 ? 6 : kHidden == 2 ? 3 : 2;

  // Attention: blocks that share a key/value head; where those are fewer than all blocks, the last ones have none.
  static constexpr int kHeadBlocks = kBlocks / kKvHeads;
  static constexpr bool kAllShare = kHeadBlocks * kKvHeads == kBlocks;
  static constexpr int kQueryHeads = kHeads / kKvHeads;           // that share a key/value head
  static constexpr int kHeadRows = (kQueryHeads + 2) * kHeadDim;  // of QKV for each key/value head
  static constexpr int kGroupWidth = kQueryHeads * kHeadDim;      // attention outputs of a key/value head
  // Heads that a warp's lanes have eight elements each of, not four (wide_heads.cuh). Where there are as many query heads as warps, each
  // warp has one of them and all positions of a block; where there is one, they share out the positions.
  static constexpr bool kWideHeads = kHeadDim > 128, kHeadOfWarp = kWideHeads && kQueryHeads == kWarps;
  static_assert(!kWideHeads || (kHeadDim == 256 && (kHeadOfWarp || kQueryHeads == 1)));
  // Where several rows have blocks of their own: of a key/value head's blocks each row has as many in a kernel for so many rows. The others
  // share all of them, and a block's warps share the rows out (rows_attention.cuh).
  static constexpr bool kBlocksOfRow = kHeadOfWarp;
  __host__ __device__ static constexpr int row_blocks(int rows) { return kBlocksOfRow ? kHeadBlocks / rows : kHeadBlocks; }
  static_assert(!kBlocksOfRow || kHeadBlocks % kMaxRows == 0);
  static constexpr int kTurns = kWideHeads ? 4 : 2;  // pairs of a head that a lane rotates
  // Positions that the Dh / 4 lanes of a head, or all of a wide one, take at a time, so few that none of them has more than one score; and
  // in a block of them.
  static constexpr int kTogether = kHeadOfWarp ? 16 : kWideHeads ? 2 : kHeadDim < 128 && kQueryHeads > 4 ? 2 : 4;
  static constexpr int kPositions = kWideHeads ? 16 : kWarps * kTogether * (128 / kHeadDim);
  static_assert(4 * kHeadDim * kPositions <= kStageBytes);
  static_assert(kHeads % kKvHeads == 0);

  // Rows of QKV: of a key/value head's, local_row(rank) is the first of its block `rank`, local_row(rank + 1) the first behind those. In
  // eights where these come out even, or where equal shares would have an octet with rows of both Q and K, or of both K and V.
  static constexpr int kEqualShare = kHeadRows % kHeadBlocks == 0 ? kHeadRows / kHeadBlocks : 0;
  __host__ __device__ static constexpr bool cuts_octet(int border) { return kEqualShare > 0 && border % max_of(kEqualShare, 1) % 8 != 0; }
  static constexpr int kQkvUnit = kHeadRows % (8 * kHeadBlocks) == 0 || kHeadRows <= 8 * kHeadBlocks ||
                                          (kKvHeads > 1 && (cuts_octet(kGroupWidth) || cuts_octet(kGroupWidth + kHeadDim)))
                                      ? 8
                                      : 2;
  static constexpr int kQkvUnits = kHeadRows / kQkvUnit;
  __host__ __device__ static constexpr int local_row(int rank) {
    return kQkvUnits % kHeadBlocks == 0 ? kQkvUnit * (kQkvUnits / kHeadBlocks) * rank : kQkvUnit * (kQkvUnits * rank / kHeadBlocks);
  }
  static constexpr int kOwnQkv = kQkvUnit * ((kQkvUnits + kHeadBlocks - 1) / kHeadBlocks);  // at most
  static constexpr int kHeadOctets = octets_of(kOwnQkv);
  // Whether blocks with rows of it all have so many octets.
  static constexpr bool kEvenHeadOctets = kQkvUnits % kHeadBlocks == 0 || kHeadOctets == 1;
  __host__ __device__ static constexpr int qkv_rows(int group, int rank) {
    if (!kAllShare && group >= kKvHeads) return 0;
    return kQkvUnits % kHeadBlocks == 0 ? kOwnQkv : local_row(rank + 1) - local_row(rank);
  }

  // Rows of the residual stream, in fours; the first blocks may have four more.
  static constexpr int kMoreBlocks = kD / 4 % kBlocks;
  static constexpr int kOwnRows = 4 * (kD / 4 / kBlocks + (kMoreBlocks > 0));  // at most
  __host__ __device__ static constexpr int hidden_row(int block) {
    return kMoreBlocks == 0 ? kOwnRows * block : (kOwnRows - 4) * block + 4 * min_of(block, kMoreBlocks);
  }
  __host__ __device__ static constexpr int hidden_rows(int block) { return kOwnRows - (kMoreBlocks > 0 && block >= kMoreBlocks ? 4 : 0); }

  // Rows of gate and of up: the same for all, also where some have more of the residual stream. To give those fewer of these evens the
  // bytes out, but all wait for the longest product (measured on an H100, docs/performance.md).
  static constexpr int kOwnMlp = kF / kBlocks, kMlpOctets = octets_of(kOwnMlp);
  static_assert(kD % 4 == 0 && hidden_row(kBlocks) == kD && kF % (2 * kBlocks) == 0);
  // With several rows in fours, as their words are: every other block may have four more.
  __host__ __device__ static constexpr int mlp_row(int block) {
    return kOwnMlp % 4 == 0 ? kOwnMlp * block : 4 * (kF / 4 * block / kBlocks);
  }
  __host__ __device__ static constexpr int mlp_rows(int block) { return mlp_row(block + 1) - mlp_row(block); }
  static_assert(kF % 4 == 0 && octets_of(mlp_rows(0)) == kMlpOctets && octets_of(mlp_rows(1)) == kMlpOctets);

  // Octets of gate that come before as many of up: with several rows in turns, so that the sums leave the ring its room. In shapes that are
  // not whole the last turn may have fewer.
  __host__ __device__ static constexpr int mlp_turn(int rows) {
    const int most = rows <= kFewerRows ? 8 : 7;
    int turn = rows == 1 ? kMlpOctets : min_of(kMlpOctets, most);
    if (!kWhole && rows > 1) {
      const int turns = (kMlpOctets + most - 1) / most;
      return (kMlpOctets + turns - 1) / turns;
    }
    while (kMlpOctets % turn != 0) --turn;
    return turn;
  }
  // Rows of a product that a block makes between two barriers, in a kernel for so many rows of the step.
  __host__ __device__ static constexpr int most_sums(int rows) {
    return max_of(max_of(8 * kHeadOctets, 16 * mlp_turn(rows)), max_of(8 * octets_of(kOwnRows), 32));
  }

  // Outputs of attention: in whole shapes each of a group's blocks combines kCombined of them, in others eight here and there
  // (parts.cuh).
  static constexpr int kCombined = kGroupWidth / kHeadBlocks;
  static constexpr int kParts = kGroupWidth / 8;
  static constexpr int kCombiners = kWhole ? kCombined / 8 : (kParts + kHeadBlocks - 1) / kHeadBlocks;  // warps of a block, at most
  // A share may end in another head than it begins in. Which of the two an output is of:
  static constexpr bool kTwoHeads = kWhole && kHeadDim % max_of(kCombined, 1) != 0;
  static_assert(!kTwoHeads || kQueryHeads <= 4, "with more heads (Qwen3-14B's five) blocks wait for parts that do not come");
  __host__ __device__ static constexpr int head_in_share(int d) {
    return kTwoHeads ? d / kHeadDim - d / kCombined * kCombined / kHeadDim : 0;
  }

  // Where an edge's words begin.
  static constexpr int kHiddenIn = 0, kHiddenPost = kHiddenIn + kD / 2;
  static constexpr int kAttention = kHiddenPost + kD / 2, kMlpWords = kAttention + kQ / 2;
  static constexpr int kHeadWords = kMlpWords + kF / 2, kPartials = kHeadWords + kKvHeads * kHeadRows / 2;
  static constexpr int kPartialWords = kHeadBlocks * kGroupWidth / 2;
  static constexpr int kGroupWords = kWhole        ? kPartialWords + kHeadBlocks * kHeadBlocks * 4
                                     : kHeadOfWarp ? kPartialWords + kHeadBlocks * kQueryHeads * 2
                                                   : kHeadBlocks * kParts * 6;
  static constexpr int kBest = kPartials + kKvHeads * kGroupWords, kWords = kBest + 2 * kBlocks;

  // Of a block with the fewest.
  static constexpr int kLayerStages = (octets_of(kAllShare ? kQkvUnits / kHeadBlocks * kQkvUnit : 0) + 2 * kMlpOctets) * kHidden +
                                      octets_of(hidden_rows(kBlocks - 1)) * (kQueries + kMlp);
  // Whether the kernel for one row goes on from step to step, where a step has more stages than the ring (Producer::await_workers). In
  // kernels for wider models, what the threads have to remember for it costs more than the launches do, also with few stages in registers
  // (measured on an H100, docs/performance.md).
  static constexpr bool kGoesOn = kHidden == 1;

  // No octet of QKV rows has rows of both Q and K, or of both K and V: they are apart in the matrix, unless one key/value head has them
  // all.
  static constexpr bool octets_are_of_one_kind() {
    for (int rank = 0; rank < (kKvHeads == 1 ? 0 : kHeadBlocks); ++rank)
      for (int at = local_row(rank); at < local_row(rank + 1); at += 8)
        for (const int border : {kGroupWidth, kGroupWidth + kHeadDim})
          if (at < border && border < min_of(at + 8, local_row(rank + 1))) return false;
    return true;
  }
  static_assert(octets_are_of_one_kind() && local_row(kHeadBlocks) == kHeadRows);
};

// Row of QKV that is a key/value head's local row `row`.
template <class S>
__device__ inline int qkv_row(int group, int row) {
  constexpr int kQueryRows = S::kQueryHeads * S::kHeadDim;
  if (row < kQueryRows) return group * kQueryRows + row;
  row -= kQueryRows;
  const int first = S::kKvHeads * kQueryRows + group * S::kHeadDim;
  return row < S::kHeadDim ? first + row : first + S::kKvHeads * S::kHeadDim + row - S::kHeadDim;
}

}  // namespace bolide::decode
