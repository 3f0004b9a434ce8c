// The worker's attention phase: heads of the new token, the block's own positions, and the combination of all blocks' parts.
#pragma once

#include "cuda/decode/parts.cuh"
#include "cuda/decode/worker.cuh"

namespace bolide::decode {

template <class S, Probe kProbe>
__device__ void Worker<S, kProbe>::make_head(const Layer& l, int layer, uint32_t epoch, int head) {
  HeadMaker<S> maker;
  maker.start(l, head, lane);
  const uint64_t* words = p.words + S::kHeadWords + (group * S::kHeadRows + head * S::kHeadDim + maker.at) / 2;
  Word a, b;
  int n = 0;
  do a = load_word(words), b = load_word(words + maker.kHalf / 2), ++n;
  while (__any_sync(kAllLanes, (!a.is_of(epoch) || !b.is_of(epoch)) && ring.patience.holds(n, where(layer, attention))));
  mark(attention, waiting);
  maker.finish(floats_of(a), floats_of(b), turn, p, sh.attention, head);
}

template <class S, Probe kProbe>
__device__ void Worker<S, kProbe>::append(int layer) {
  constexpr int kPairs = S::kHeadDim / 2;
  const int i = threadIdx.x - (kThreads - 2 * kPairs);  // K's pairs, then V's
  if (i < 0 || !owns_new_position()) return;
  const bool is_v = i >= kPairs;
  __nv_bfloat16* to = kv_row<__nv_bfloat16>(p.kv, layer, sh.now.slot_chunk, group, is_v, sh.now.slot_offset);
  reinterpret_cast<uint32_t*>(to)[i % kPairs] = reinterpret_cast<const uint32_t*>(sh.attention.fresh[is_v])[i % kPairs];
  // The stream's copies read it in the next step, which may be this launch's.
  asm volatile("fence.proxy.async.global;" ::: "memory");
}

template <class S, Probe kProbe>
__device__ void Worker<S, kProbe>::attend(const Layer& l) {
  using Lanes = Softmax<S, S::kTogether>;
  constexpr int kAtOnce = Lanes::kTogether * Lanes::kGroups * kWarps;  // positions
  static_assert(S::kPositions % kAtOnce == 0);
  Lanes lanes;
  lanes.start(sh.attention, lane);
  const int context = sh.now.context, from = first_seen(context, l.window);
  const int within = Lanes::kTogether * (warp * Lanes::kGroups + lane / Lanes::kLanes), column = 4 * (lane % Lanes::kLanes);
  for (int j = 0; j < sh.now.blocks; ++j) {
    const int first = (rank + j * S::kHeadBlocks) * S::kPositions;
    if (first / S::kPositions < from / S::kPositions) continue;
    const bool cached = first < context;  // else the new position is the block's only one
    if (cached) wait(ring.full[ring.place.stage], ring.place.parity, ring.patience, kStreamPhase);
    const char* stage = ring.data + ring.place.stage * kStageBytes + within * S::kHeadDim * 2;
#pragma unroll 1
    for (int at = 0; at < S::kPositions; at += kAtOnce) {
      uint2 k[Lanes::kTogether], v[Lanes::kTogether];
      const int valid = load_positions<S>(stage + at * S::kHeadDim * 2, sh.attention, first + within + at, from, context, column, k, v);
      lanes.add(k, v, valid, lane);
    }
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
  if (warp < S::kQueryHeads + 2) make_head(l, layer, epoch, warp);
  if constexpr (S::kQueryHeads + 2 > kWarps)
    if (warp < S::kQueryHeads + 2 - kWarps) make_head(l, layer, epoch, warp + kWarps);
  meet_workers();
  attend(l);
  meet_workers();
  publish_partials(epoch);
  append(layer);
  mark(attention, computing);
  combine(layer, epoch);
}

}  // namespace bolide::decode
