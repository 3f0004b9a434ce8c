// Attention of several rows: a team of warps of every block of a key/value head's group makes a row's heads, goes over the blocks of
// positions that its block owns of that row, and combines its share of the row's outputs. The rows' blocks come in turns (turns.h).
// Teams meet only at the stream: each takes part in handing back all stages of K and V, also of rows that are not its own.
#pragma once

#include "cuda/decode/rows_worker.cuh"

namespace bolide::decode {

template <class S, bool kTimed>
__device__ void RowsWorker<S, kTimed>::make_heads(const Layer& l, int layer, uint32_t epoch) {
  constexpr int kHeads = (S::kQueryHeads + 2) / kTeam;  // of a warp: every kTeam th
  static_assert(kHeads * kTeam == S::kQueryHeads + 2);
  HeadMaker<S> makers[kHeads];
#pragma unroll
  for (int i = 0; i < kHeads; ++i) makers[i].start(l, i * kTeam + part, lane);
  const uint64_t* from = words(own_row) + S::kHeads + (group * S::kHeadRows + makers[0].at) / 2;
  Word low[kHeads], high[kHeads];
  bool missing;
  int n = 0;
  do {
    missing = false;
#pragma unroll
    for (int i = 0; i < kHeads; ++i) {
      low[i] = load_word(from + (i * kTeam + part) * S::kHeadDim / 2);
      high[i] = load_word(from + (i * kTeam + part) * S::kHeadDim / 2 + HeadMaker<S>::kHalf / 2);
    }
#pragma unroll
    for (int i = 0; i < kHeads; ++i) missing |= !low[i].is_of(epoch) || !high[i].is_of(epoch);
    ++n;
  } while (__any_sync(kAllLanes, missing && ring.patience.holds(n, where(layer, attention))));
  mark(attention, waiting);
#pragma unroll
  for (int i = 0; i < kHeads; ++i)
    makers[i].finish(floats_of(low[i]), floats_of(high[i]), turn, p, sh.attention.row[own_row], i * kTeam + part);
  meet_team();
}

template <class S, bool kTimed>
__device__ void RowsWorker<S, kTimed>::append(int layer) {
  if (sh.own.context[own_row] / S::kPositions % kGroupBlocks != rank_in_row(rank, own_row)) return;
#pragma unroll
  for (int is_v = 0; is_v < 2; ++is_v) {
    __nv_bfloat16* to = kv_row<__nv_bfloat16>(p.kv, layer, sh.own.slot_chunk[own_row], group, is_v, sh.own.slot_offset[own_row]);
    for (int i = lane; i < S::kHeadDim / 2; i += 32)
      reinterpret_cast<uint32_t*>(to)[i] = reinterpret_cast<const uint32_t*>(sh.attention.row[own_row].fresh[is_v])[i];
  }
}

template <class S, bool kTimed>
__device__ void RowsWorker<S, kTimed>::attend(const Layer& l, int layer, uint32_t epoch) {
  using Lanes = Softmax<S, 8 * S::kQueryHeads <= S::kHeadDim / 4 ? 8 : 4>;
  constexpr int kRound = Lanes::kTogether * Lanes::kGroups;  // positions that the warp takes at a time
  Lanes lanes;
  if (own_row < rows) lanes.start(sh.attention.row[own_row], lane);
  const int column = 4 * (lane % Lanes::kLanes), rounds = rounds_of(sh.own, l.window, S::kPositions);
#pragma unroll 1
  for (int round = 0; round == 0 || round < rounds; ++round) {
#pragma unroll 1
    for (int m = 0; m < rows; ++m) {
      const Turn turn = turn_of(sh.own, rank, l.window, round, m, S::kPositions);
      const int context = sh.own.context[m];
      const bool cached = turn.present && turn.first < context;  // else the new position is the block's only one
      if (cached) wait(ring.full[ring.place.stage], ring.place.parity, ring.patience, kStreamPhase);
      if (m == own_row && turn.present) {
        for (int done = part * kRound; done < S::kPositions && turn.first + done <= context; done += kTeam * kRound) {
          const int within = done + Lanes::kTogether * (lane / Lanes::kLanes);
          const char* stage = ring.data + ring.place.stage * kStageBytes + within * S::kHeadDim * 2;
          uint2 k[Lanes::kTogether], v[Lanes::kTogether];
          const int valid = load_positions<S>(stage, sh.attention.row[own_row], turn.first + within, turn.from, context, column, k, v);
          lanes.add(k, v, valid, lane);
        }
      }
      if (cached) {
        __syncwarp();
        if (lane == 0) arrive(ring.empty[ring.place.stage]);
        ring.place.next();
      }
      if (m == own_row && turn.ends_row(round)) publish_own(lanes, layer, epoch);
    }
  }
  mark(attention, computing);
}

// Joins the team's warps, of which the first publishes the row's part and appends the new position.
template <class S, bool kTimed>
template <class Lanes>
__device__ void RowsWorker<S, kTimed>::publish_own(Lanes& lanes, int layer, uint32_t epoch) {
  if (sh.own.first[own_row] < sh.own.first[own_row + 1]) {
    lanes.join(lane);
    if (part > 0) lanes.leave(sh.attention.row[own_row], lane);
    meet_team();
    if (part == 0) lanes.take(sh.attention.row[own_row], lane);
  }
  if (part == 0) publish_part(lanes, epoch), append(layer);
}

// Laid out as Worker::publish_partials does, by the block's place in the row's order.
template <class S, bool kTimed>
template <class Lanes>
__device__ void RowsWorker<S, kTimed>::publish_part(const Lanes& lanes, uint32_t epoch) {
  const int column = 4 * (lane % Lanes::kLanes), source = rank_in_row(rank, own_row);
  uint64_t* to = words(own_row) + S::kPartials + group * S::kGroupWords;
#pragma unroll
  for (int h = 0; h < S::kQueryHeads; ++h) {
    const int d = h * S::kHeadDim + column;
    if (lane >= Lanes::kLanes) break;
    store_floats(to + (d / 8 * kGroupBlocks + source) * 4 + d % 8 / 2, lanes.values[h][0], lanes.values[h][1], epoch);
    store_floats(to + (d / 8 * kGroupBlocks + source) * 4 + d % 8 / 2 + 1, lanes.values[h][2], lanes.values[h][3], epoch);
  }
  const int share = lane % kGroupBlocks, head = share * S::kCombined / S::kHeadDim;
  const float maximum = Lanes::of_head(lanes.maximum, head, lane % Lanes::kLanes),
              sum = Lanes::of_head(lanes.sum, head, lane % Lanes::kLanes);
  if (lane < kGroupBlocks) {
    store_word(to + S::kPartialWords + (share * kGroupBlocks + source) * 4, __float_as_uint(maximum), 0, epoch);
    store_word(to + S::kPartialWords + (share * kGroupBlocks + source) * 4 + 1, __float_as_uint(sum), 0, epoch);
  }
}

template <class S, bool kTimed>
__device__ void RowsWorker<S, kTimed>::combine(int layer, uint32_t epoch) {
  const uint64_t* from = words(own_row) + S::kPartials + group * S::kGroupWords;
#pragma unroll
  for (int i = 0; i < S::kCombined / 8 / kTeam; ++i) {
    const int eight = i * kTeam + part;
    const PartialWords partial = poll_partials<S>(from, rank, eight, lane, epoch, ring.patience, where(layer, combination));
    if (i == 0) mark(combination, waiting);
    const float v = combine_partials(partial, lane);
    const uint32_t pair = pack_bf16(v, __shfl_down_sync(kAllLanes, v, 1));
    if (lane < 8 && lane % 2 == 0)
      store_word(words(own_row) + S::kAttention + word_of(group * S::kGroupWidth + rank * S::kCombined + 8 * eight + lane), pair, 0, epoch);
  }
  mark(combination, computing);
}

}  // namespace bolide::decode
