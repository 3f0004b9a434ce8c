// The worker's attention phase: heads of the new token, the block's own positions, and the combination of all blocks' parts.
#pragma once

#include "cuda/decode/parts.cuh"
#include "cuda/decode/worker.cuh"

namespace bolide::decode {

template <class S, Probe kProbe>
template <int N>
__device__ void Worker<S, kProbe>::make_heads(const Layer& l, int layer, uint32_t epoch) {
  HeadMaker<S> makers[N];
#pragma unroll
  for (int i = 0; i < N; ++i) makers[i].start(l, warp + i * kWarps, lane);
  const uint64_t* words = p.words + S::kHeadWords + (group * S::kHeadRows + warp * S::kHeadDim + makers[0].at) / 2;
  Word a[N], b[N];
  int n = 0;
  bool missing;
  do {
    missing = false;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const uint64_t* from = words + i * (kWarps * S::kHeadDim / 2);
      a[i] = load_word(from), b[i] = load_word(from + S::kHeadDim / 4);
    }
#pragma unroll
    for (int i = 0; i < N; ++i) missing |= !a[i].is_of(epoch) || !b[i].is_of(epoch);
    ++n;
  } while (__any_sync(kAllLanes, missing && ring.patience.holds(n, where(layer, attention))));
  mark(attention, waiting);
#pragma unroll
  for (int i = 0; i < N; ++i) makers[i].finish(a[i], b[i], turn, p, sh.attention, warp + i * kWarps);
}

template <class S, Probe kProbe>
__device__ void Worker<S, kProbe>::append(int layer) {
  constexpr int kPairs = S::kHeadDim / 2;
  const int i = threadIdx.x - (kThreads - 2 * kPairs);  // K's pairs, then V's
  if (i < 0 || !owns_new_position()) return;
  const bool is_v = i >= kPairs;
  __nv_bfloat16* to = kv_row<__nv_bfloat16>(p.kv, layer, sh.now.own.slot_chunk[0], group, is_v, sh.now.own.slot_offset[0]);
  reinterpret_cast<uint32_t*>(to)[i % kPairs] = reinterpret_cast<const uint32_t*>(sh.attention.fresh[is_v])[i % kPairs];
  // The stream's copies read it in the next step, which may be this launch's.
  asm volatile("fence.proxy.async.global;" ::: "memory");
}

template <class S, Probe kProbe>
__device__ void Worker<S, kProbe>::attend(const Layer& l) {
  using Lanes = Softmax<S, S::kTogether>;
  static_assert(Lanes::kTogether * Lanes::kGroups * kWarps == S::kPositions);
  Lanes lanes;
  lanes.start(sh.attention, lane);
  const int context = sh.now.own.context[0], from = first_seen(context, l.window);
  const int within = Lanes::kTogether * (warp * Lanes::kGroups + lane / Lanes::kLanes), column = 4 * (lane % Lanes::kLanes);
  for (int j = 0; j < sh.now.own.first[1]; ++j) {
    const int first = (rank + j * S::kHeadBlocks) * S::kPositions;
    if (first / S::kPositions < from / S::kPositions) continue;
    const bool cached = first < context;  // else the new position is the block's only one
    if (cached) wait(ring.full[ring.place.stage], ring.place.parity, ring.patience, kStreamPhase);
    const char* stage = ring.data + ring.place.stage * kStageBytes + within * S::kHeadDim * 2;
    uint2 k[Lanes::kTogether], v[Lanes::kTogether];
    const int valid = load_positions<S>(stage, sh.attention, first + within, from, context, column, k, v);
    lanes.add(k, v, valid, lane);
    if (!cached) continue;
    __syncwarp();
    if (lane == 0) arrive(ring.empty[ring.place.stage]);
    ring.place.next();
  }
  lanes.finish(sh.attention, warp, lane);
}

template <class S, Probe kProbe>
__device__ void Worker<S, kProbe>::publish_partials(uint32_t epoch) {
  uint64_t* words = p.words + S::kPartials + group * S::kGroupWords;
  if constexpr (!S::kWhole) {
    store_parts<S>(words, sh.attention, rank, epoch);
  } else {
    const int d = 2 * (32 * warp + lane);
    if (d >= S::kGroupWidth) return;
    float scale[kWarps], a = 0.0f, b = 0.0f;
    const float2 joined = join_warps(sh.attention, d / S::kHeadDim, scale);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float2 v = *reinterpret_cast<const float2*>(&sh.attention.values[w][d]);
      a += v.x * scale[w], b += v.y * scale[w];
    }
    store_floats(words + (d / 8 * kGroupBlocks + rank) * 4 + d % 8 / 2, a, b, epoch);
    if (d % S::kCombined == 0 || (S::kTwoHeads && d % S::kHeadDim == 0)) {
      uint64_t* to = words + S::kPartialWords + (d / S::kCombined * kGroupBlocks + rank) * 4 + 2 * S::head_in_share(d);
      store_word(to, __float_as_uint(joined.x), 0, epoch);
      store_word(to + 1, __float_as_uint(joined.y), 0, epoch);
    }
  }
}

template <class S, Probe kProbe>
__device__ void Worker<S, kProbe>::combine(int layer, uint32_t epoch) {
  if constexpr (!S::kWhole) {
    const int part = rank + warp * S::kHeadBlocks;
    if (part >= S::kParts) return;
    Parts<S> parts;
    parts.poll(p.words + S::kPartials + group * S::kGroupWords, part, lane, epoch, ring.patience, where(layer, combination));
    mark(combination, waiting);
    publish(S::kAttention, group * S::kGroupWidth + 8 * part + lane, lane < 8, parts.combine(lane), epoch);
    mark(combination, computing);
  } else {
    if (warp >= S::kCombined / 8) return;
    const PartialWords partial = poll_partials<S>(p.words + S::kPartials + group * S::kGroupWords, rank, warp, lane, epoch, ring.patience,
                                                  where(layer, combination));
    mark(combination, waiting);
    const float v = combine_partials(partial, lane);
    publish(S::kAttention, group * S::kGroupWidth + rank * S::kCombined + 8 * warp + lane, lane < 8, v, epoch);
    mark(combination, computing);
  }
}

template <class S, Probe kProbe>
__device__ void Worker<S, kProbe>::attention_phase(const Layer& l, int layer, uint32_t epoch) {
  if (!S::kAllShare && group >= S::kKvHeads) return;
  constexpr int kHeads = S::kQueryHeads + 2;
  if constexpr (S::kWideHeads) {
    if (warp < kHeads - kWarps)
      make_wide_heads<2>(l, layer, epoch);
    else if (warp < kHeads)
      make_wide_heads<1>(l, layer, epoch);
  } else if constexpr (kHeads > kWarps) {
    if (warp < kHeads - kWarps)
      make_heads<2>(l, layer, epoch);
    else
      make_heads<1>(l, layer, epoch);
  } else {
    if (warp < kHeads) make_heads<1>(l, layer, epoch);
  }
  meet_workers();
  if constexpr (S::kWideHeads)
    attend_wide(l, epoch);
  else
    attend(l);
  if constexpr (!S::kHeadOfWarp) {
    meet_workers();
    publish_partials(epoch);
  }
  append(layer);
  mark(attention, computing);
  combine(layer, epoch);
}

}  // namespace bolide::decode
