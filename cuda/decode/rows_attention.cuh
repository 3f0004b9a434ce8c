// Attention of several rows: a warp or two (a team) of every block of a key/value head's group makes a row's heads, goes over the blocks of
// positions that its block owns of that row, and combines its share of the row's outputs. The rows' blocks come in turns (turns.h).
// Teams meet only at the stream: each takes part in handing back all stages of K and V, also of rows that are not its own. Who has not seen
// a stage filled would take its next filling's parity for this one's, and who skipped it could be left behind by two.
//
// Where eight heads of 256 share a key/value head (wide_heads.cuh), a team is a whole block, and each row has some of the key/value head's
// blocks to itself: a row's heads are an eighth of them for each warp, not eight, and its parts are not 128 blocks' but 16 or 32. That
// counts more than the time for which a row much longer than the others keeps its own blocks waiting.
#pragma once

#include "cuda/decode/parts.cuh"
#include "cuda/decode/rows_worker.cuh"
#include "cuda/decode/wide_heads.cuh"

namespace bolide::decode {

// poll_partials() for N parts at once: part, part + stride, ...
template <class S, int N>
__device__ inline void poll_partials(PartialWords (&got)[N], const uint64_t* words, int rank, int part, int stride, int lane,
                                     uint32_t epoch, Patience& patience, uint32_t phase) {
  const int source = lane % kGroupBlocks, half = lane / kGroupBlocks;
  const uint64_t* at = words + ((rank * (S::kCombined / 8) + part) * kGroupBlocks + source) * 4 + 2 * half;
  const uint64_t* sum_at = words + S::kPartialWords + (rank * kGroupBlocks + source) * 4;
  const auto is_part = [&](int i) { return S::kCombined / 8 == N * stride || part + i * stride < S::kCombined / 8; };
  bool missing;
  int n = 0;
  do {
    const WordPair sums = load_words(sum_at);
    missing = !sums.are_of(epoch);
    WordPair second = sums;
    if (S::kTwoHeads && S::head_in_share(rank * S::kCombined + S::kCombined - 8) > 0) {
      second = load_words(sum_at + 2);
      missing |= !second.are_of(epoch);
    }
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (!is_part(i)) break;
      got[i] = {load_words(at + i * stride * kGroupBlocks * 4),
                S::head_in_share(rank * S::kCombined + 8 * (part + i * stride)) > 0 ? second : sums};
      missing |= !got[i].values.are_of(epoch);
    }
    ++n;
  } while (__any_sync(kAllLanes, missing && patience.holds(n, phase)));
}

// Parts (parts.cuh) first, first + stride, ... at once.
template <class S, int N, int kSources>
__device__ inline void poll_parts(Parts<S, kSources> (&parts)[N], const uint64_t* words, int first, int stride, int lane, uint32_t epoch,
                                  Patience& patience, uint32_t phase) {
  const auto is_part = [&](int i) { return S::kParts % stride == 0 || first + i * stride < S::kParts; };
  bool missing;
  int n = 0;
  // Of many words the sums alone until they have come: polls of everything are in the way of what they wait for.
  if constexpr (N * Parts<S, kSources>::kEach > 2) {
    do {
      missing = false;
      parts[0].load_sums_of_row(words, first, lane);
      parts[0].check_sums(missing, lane, epoch);
    } while (__any_sync(kAllLanes, missing && patience.holds(++n, phase)));
    n = 0;
  }
  do {
    missing = false;
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (is_part(i)) parts[i].load_of_row(words, first + i * stride, lane);
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (is_part(i)) parts[i].check(missing, lane, epoch);
    ++n;
  } while (__any_sync(kAllLanes, missing && patience.holds(n, phase)));
}

// Positions that the Dh / 4 lanes of a head take at a time, so many that none of them has more than one score.
template <class S>
constexpr int kPositionsTogether = min_of(16, S::kHeadDim / 4 / Softmax<S, S::kTogether>::kHeads);
// A warp's attention where so many warps share out a row's positions.
template <class S, int kShares, bool = S::kWideHeads>
struct RowAttention {
  using Lanes = Softmax<S, kPositionsTogether<S>>;
};
template <class S, int kShares>
struct RowAttention<S, kShares, true> {
  using Lanes = WideSoftmax<S, S::kPositions / kShares>;
};

template <class S, int kRows, Probe kProbe>
__device__ void RowsWorker<S, kRows, kProbe>::make_heads(const Layer& l, int layer, uint32_t epoch) {
  constexpr int kHeads = (S::kQueryHeads + 2 + kTeam - 1) / kTeam;  // of a warp, at most: every kTeam th
  const bool appends = owns_new_position();
  const auto is_made = [&](int head) {
    return head < S::kQueryHeads || (appends && (kHeads * kTeam == S::kQueryHeads + 2 || head < S::kQueryHeads + 2));
  };
  using Maker = std::conditional_t<S::kWideHeads, WideHeadMaker<S>, HeadMaker<S>>;
  Maker makers[kHeads];
#pragma unroll
  for (int i = 0; i < kHeads; ++i) makers[i].start(l, i * kTeam + part(), lane);
  const uint64_t* from = own_words(own_row()) + Words::kHeads + (group() * S::kHeadRows + makers[0].at) / 2;
  typename Maker::Words low[kHeads], high[kHeads];
  bool missing;
  int n = 0;
  do {
    missing = false;
#pragma unroll
    for (int i = 0; i < kHeads; ++i) {
      // K and V of the new position are wanted where they are stored alone; elsewhere a head that is there anyway stands for them.
      const int head = i * kTeam + part();
      const uint64_t* at = from + (is_made(head) ? head : part() % S::kQueryHeads) * S::kHeadDim / 2;
      low[i] = Maker::load(at);
      high[i] = Maker::load(at + Maker::kHalf / 2);
    }
#pragma unroll
    for (int i = 0; i < kHeads; ++i) missing |= !Maker::are_of(low[i], epoch) || !Maker::are_of(high[i], epoch);
    ++n;
  } while (__any_sync(kAllLanes, missing && ring.patience.holds(n, where(layer, attention))));
  mark(attention, waiting);
  float2 turn[S::kTurns];
#pragma unroll
  for (int i = 0; i < S::kTurns; i += 2) {
    const float4 pairs = sh.attention.turns[own_place()][i / 2][lane];
    turn[i] = make_float2(pairs.x, pairs.y), turn[i + 1] = make_float2(pairs.z, pairs.w);
  }
#pragma unroll
  for (int i = 0; i < kHeads; ++i)
    if (const int head = i * kTeam + part(); is_made(head)) makers[i].finish(low[i], high[i], turn, p, own_attention(), head);
  meet_team();
}

template <class S, int kRows, Probe kProbe>
__device__ void RowsWorker<S, kRows, kProbe>::append(int layer) {
  if (!owns_new_position()) return;
#pragma unroll
  for (int is_v = 0; is_v < 2; ++is_v) {
    __nv_bfloat16* to =
        kv_row<__nv_bfloat16>(p.kv, layer, sh.now.own.slot_chunk[own_row()], group(), is_v, sh.now.own.slot_offset[own_row()]);
    for (int i = lane; i < S::kHeadDim / 2; i += 32)
      reinterpret_cast<uint32_t*>(to)[i] = reinterpret_cast<const uint32_t*>(own_attention().fresh[is_v])[i];
  }
  // The stream's copies read it in the next step, which may be this launch's.
  if constexpr (S::kGoesOn) asm volatile("fence.proxy.async.global;" ::: "memory");
}

// By lane % kMaxRows for all rows at once.
template <class S, int kRows, Probe kProbe>
__device__ typename RowsWorker<S, kRows, kProbe>::Round RowsWorker<S, kRows, kProbe>::round_at(int window, int number) const {
  const int m = min(lane % kRows, rows() - 1);
  const Turn turn = turn_of<kBlocksOfRow>(sh.now.own, rank(), window, number, m, S::kPositions);
  Round round{};
  round.cached = __ballot_sync(kAllLanes, turn.present && turn.first < sh.now.own.context[m]) & ((1u << rows()) - 1);
  round.own.from = __shfl_sync(kAllLanes, turn.from, own_row());
  round.own.first = __shfl_sync(kAllLanes, turn.first, own_row());
  round.own.left = __shfl_sync(kAllLanes, turn.left, own_row());
  round.own.present = __shfl_sync(kAllLanes, turn.present, own_row());
  return round;
}

template <class S, int kRows, Probe kProbe>
__device__ void RowsWorker<S, kRows, kProbe>::attend(Round round, int window, int layer, uint32_t epoch) {
  constexpr int kShares = S::kHeadOfWarp ? 1 : kTeam;  // warps that share out the positions
  using Lanes = typename RowAttention<S, kShares>::Lanes;
  constexpr int kAtOnce = Lanes::kTogether * Lanes::kGroups;  // positions that the warp takes at a time
  Lanes lanes;
  if (own_row() < rows()) {
    if constexpr (S::kWideHeads)
      lanes.start(own_attention(), S::kHeadOfWarp ? part() : 0, lane);
    else
      lanes.start(own_attention(), lane);
  }
  const int column = 4 * (lane % Lanes::kLanes), rounds = rounds_of<kBlocksOfRow>(sh.now.own, window, S::kPositions);
  const int context = sh.now.own.context[min(own_row(), rows() - 1)];
  for (int number = 0;;) {
#pragma unroll 1
    for (int m = 0; m < rows(); ++m) {
      const bool cached = round.cached >> m & 1;  // else the new position is the block's only one, or there is none
      if (cached) wait(ring.full[ring.place.stage], ring.place.parity, ring.patience, kStreamPhase);
      if (m == own_row() && round.own.present) {
        const int first = round.own.first;
        for (int done = (kShares == kTeam ? part() : 0) * kAtOnce; done < S::kPositions && first + done <= context;
             done += kShares * kAtOnce) {
          const int within = done + Lanes::kTogether * (lane / Lanes::kLanes);
          const char* stage = ring.data + ring.place.stage * kStageBytes + within * S::kHeadDim * 2;
          if constexpr (S::kWideHeads) {
            lanes.add(stage, own_attention(), first + within, round.own.from, context, lane);
          } else {
            uint2 k[Lanes::kTogether], v[Lanes::kTogether];
            const int valid = load_positions<S>(stage, own_attention(), first + within, round.own.from, context, column, k, v);
            lanes.add(k, v, valid, lane);
          }
        }
      }
      if (cached) {
        __syncwarp();
        if (lane == 0) arrive(ring.empty[ring.place.stage]);
        ring.place.next();
      }
      if (m == own_row() && round.own.ends_row(number)) publish_own(lanes, round.own.left == 0, layer, epoch);
    }
    if (++number >= rounds) break;
    round = round_at(window, number);
  }
  mark(attention, computing);
}

// Joins the team's warps where they had a block, and lets the first publish the row's part and append the new position. Warps that have a
// head each publish it themselves.
template <class S, int kRows, Probe kProbe>
template <class Lanes>
__device__ void RowsWorker<S, kRows, kProbe>::publish_own(Lanes& lanes, bool joined, int layer, uint32_t epoch) {
  if (joined) {
    lanes.join(lane);
    if constexpr (kTeam > 1 && !S::kHeadOfWarp) {
      if (part() > 0) lanes.leave(own_attention(), lane);
      meet_team();
      if (part() == 0) lanes.take(own_attention(), lane);
    }
  }
  if (!S::kHeadOfWarp && part() > 0) return;
  publish_part(lanes, epoch);
  if (part() == 0) append(layer);
}

// Laid out as parts.cuh says, by the block's place in the row's order.
template <class S, int kRows, Probe kProbe>
template <class Lanes>
__device__ void RowsWorker<S, kRows, kProbe>::publish_parts(const Lanes& lanes, uint32_t epoch) {
  const int source = rank_in_row<kBlocksOfRow>(rank(), own_row());
  uint64_t* words = own_words(own_row()) + Words::kPartials + group() * Words::kGroupWords;
  if constexpr (S::kWideHeads) {
    const int head = S::kHeadOfWarp ? part() : 0;
    Parts<S, kBlocksOfRow>::store_wide_head(words, head, source, lanes.values, lanes.maximum, lanes.sum, lane, epoch);
  } else {
    const int head = min(lane, S::kQueryHeads - 1);
#pragma unroll
    for (int h = 0; h < S::kQueryHeads; ++h) {
      const float* v = lanes.values[h];
      if (lane < Lanes::kLanes)
        store_words(words + Parts<S>::row_values_at(h * S::kHeadDim / 8 + lane / 2, source) + lane % 2 * 2,
                    {word_of_floats(v[0], v[1], epoch), word_of_floats(v[2], v[3], epoch)});
    }
    const float maximum = Lanes::of_head(lanes.maximum, head, 0), sum = Lanes::of_head(lanes.sum, head, 0);
    if (lane < S::kQueryHeads)
      store_words(words + Parts<S>::row_sums_at(head, source),
                  {{__float_as_uint(maximum), epoch << 16}, {__float_as_uint(sum), epoch << 16}});
  }
}

// Laid out as Worker::publish_partials does, likewise.
template <class S, int kRows, Probe kProbe>
template <class Lanes>
__device__ void RowsWorker<S, kRows, kProbe>::publish_shares(const Lanes& lanes, uint32_t epoch) {
  const int column = 4 * (lane % Lanes::kLanes), source = rank_in_row<kBlocksOfRow>(rank(), own_row());
  uint64_t* to = own_words(own_row()) + Words::kPartials + group() * Words::kGroupWords;
#pragma unroll
  for (int h = 0; h < S::kQueryHeads; ++h) {
    const int d = h * S::kHeadDim + column;
    if (lane >= Lanes::kLanes) break;
    store_floats(to + (d / 8 * kGroupBlocks + source) * 4 + d % 8 / 2, lanes.values[h][0], lanes.values[h][1], epoch);
    store_floats(to + (d / 8 * kGroupBlocks + source) * 4 + d % 8 / 2 + 1, lanes.values[h][2], lanes.values[h][3], epoch);
  }
  // Of a share's first head, and of its last where that is another.
  const int share = lane % kGroupBlocks;
#pragma unroll
  for (int i = 0; i < (S::kTwoHeads ? 2 : 1); ++i) {
    const int d = share * S::kCombined + i * (S::kCombined - 8);
    const float maximum = Lanes::of_head(lanes.maximum, d / S::kHeadDim, lane % Lanes::kLanes),
                sum = Lanes::of_head(lanes.sum, d / S::kHeadDim, lane % Lanes::kLanes);
    uint64_t* at = to + S::kPartialWords + (share * kGroupBlocks + source) * 4 + 2 * i;
    if (lane < kGroupBlocks && i == S::head_in_share(d)) {
      store_word(at, __float_as_uint(maximum), 0, epoch);
      store_word(at + 1, __float_as_uint(sum), 0, epoch);
    }
  }
}

template <class S, int kRows, Probe kProbe>
__device__ void RowsWorker<S, kRows, kProbe>::combine_parts(int layer, uint32_t epoch) {
  constexpr int kStride = kTeam * kBlocksOfRow, kParts = (S::kParts + kStride - 1) / kStride;  // of the warp, at most
  const uint64_t* from = own_words(own_row()) + Words::kPartials + group() * Words::kGroupWords;
  const int first = first_part();
  Parts<S, kBlocksOfRow> parts[kParts];
  poll_parts(parts, from, first, kStride, lane, epoch, ring.patience, where(layer, combination));
  mark(combination, waiting);
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const int part = first + i * kStride;
    if (part >= S::kParts) break;
    uint64_t* to = word_for(Words::kAttention, group() * S::kGroupWidth + 8 * part + lane % 8, own_row());
    publish_elements(to, parts[i].combine(lane), lane < 8 && lane % 4 == 0, epoch);
  }
  mark(combination, computing);
}

template <class S, int kRows, Probe kProbe>
__device__ void RowsWorker<S, kRows, kProbe>::combine_shares(int layer, uint32_t epoch) {
  constexpr int kAll = S::kCombined / 8, kParts = (kAll + kTeam - 1) / kTeam;  // of 8 outputs each: every kTeam th is the warp's
  const uint64_t* from = own_words(own_row()) + Words::kPartials + group() * Words::kGroupWords;
  uint64_t* to[kParts];
#pragma unroll
  for (int i = 0; i < kParts; ++i)
    to[i] = word_for(Words::kAttention, group() * S::kGroupWidth + rank() * S::kCombined + 8 * (i * kTeam + part()) + lane % 8, own_row());
  PartialWords partials[kParts];
  poll_partials<S, kParts>(partials, from, rank(), part(), kTeam, lane, epoch, ring.patience, where(layer, combination));
  mark(combination, waiting);
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    if (kAll < kParts * kTeam && i * kTeam + part() >= kAll) break;
    publish_elements(to[i], combine_partials(partials[i], lane), lane < 8 && lane % 4 == 0, epoch);
  }
  mark(combination, computing);
}

}  // namespace bolide::decode
