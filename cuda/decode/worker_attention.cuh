// The worker's attention phase: heads of the new token, the block's own positions, and the combination of all blocks' parts.
#pragma once

#include "cuda/decode/worker.cuh"

namespace bolide::decode {

template <class S, bool kTimed>
__device__ void Worker<S, kTimed>::make_head(const Layer& l, int layer, uint32_t epoch) {
  constexpr int kHalf = S::kHeadDim / 2;
  if (warp >= S::kQueryHeads + 2) return;
  const bool is_q = warp < S::kQueryHeads, is_v = warp == S::kQueryHeads + 1, active = lane < S::kHeadDim / 4;
  const float* norm = is_q ? l.q_norm : is_v ? nullptr : l.k_norm;
  const int at = 2 * (active ? lane : 0);
  float2 low_weight{1.0f, 1.0f}, high_weight{1.0f, 1.0f};
  if (norm) low_weight = *reinterpret_cast<const float2*>(norm + at), high_weight = *reinterpret_cast<const float2*>(norm + kHalf + at);
  const uint64_t* words = p.words + S::kHeads + (group * S::kHeadRows + warp * S::kHeadDim + at) / 2;
  Word a, b;
  int n = 0;
  do a = load_word(words), b = load_word(words + kHalf / 2), ++n;
  while (__any_sync(kAllLanes, (!a.is_of(epoch) || !b.is_of(epoch)) && ring.patience.holds(n, where(layer, attention))));
  mark(attention, waiting);
  float2 low = floats_of(a), high = floats_of(b);
  if (norm) {
    const float squares = active ? (low.x * low.x + low.y * low.y) + (high.x * high.x + high.y * high.y) : 0.0f;
    const float scale = rsqrtf(warp_sum(squares) / S::kHeadDim + p.norm_eps);
    low.x *= scale * low_weight.x, low.y *= scale * low_weight.y;
    high.x *= scale * high_weight.x, high.y *= scale * high_weight.y;
  }
  if (!is_v) {
    const float2 l0 = low, h0 = high;
    low = make_float2(l0.x * turn[0].x - h0.x * turn[0].y, l0.y * turn[1].x - h0.y * turn[1].y);
    high = make_float2(h0.x * turn[0].x + l0.x * turn[0].y, h0.y * turn[1].x + l0.y * turn[1].y);
  }
  if (!active) return;
  if (is_q) {
    const float scale = p.softmax_scale * 1.4426950408889634f;
    *reinterpret_cast<float2*>(&sh.attention.q[warp][at]) = make_float2(low.x * scale, low.y * scale);
    *reinterpret_cast<float2*>(&sh.attention.q[warp][kHalf + at]) = make_float2(high.x * scale, high.y * scale);
    return;
  }
  const uint32_t low_pair = pack_bf16(low.x, low.y), high_pair = pack_bf16(high.x, high.y);
  *reinterpret_cast<uint32_t*>(&sh.attention.fresh[is_v][at]) = low_pair;
  *reinterpret_cast<uint32_t*>(&sh.attention.fresh[is_v][kHalf + at]) = high_pair;
}

template <class S, bool kTimed>
__device__ void Worker<S, kTimed>::append(int layer) {
  constexpr int kPairs = S::kHeadDim / 2;
  const int i = threadIdx.x - (kThreads - 2 * kPairs);  // K's pairs, then V's
  if (i < 0 || !owns_new_position()) return;
  const bool is_v = i >= kPairs;
  __nv_bfloat16* to = kv_row<__nv_bfloat16>(p.kv, layer, sh.own.slot_chunk, group, is_v, sh.own.slot_offset);
  reinterpret_cast<uint32_t*>(to)[i % kPairs] = reinterpret_cast<const uint32_t*>(sh.attention.fresh[is_v])[i % kPairs];
}

template <class S, bool kTimed>
__device__ void Worker<S, kTimed>::attend(const Layer& l) {
  using Lanes = Softmax<S>;
  Lanes lanes;
  lanes.start(sh.attention, lane);
  const int context = sh.own.context, from = l.window > 0 ? max(0, context + 1 - l.window) : 0;
  const int within = Lanes::kTogether * (warp * Lanes::kGroups + lane / Lanes::kLanes), column = 4 * (lane % Lanes::kLanes);
  for (int j = 0; j < sh.own.count; ++j) {
    const int first = (rank + j * kGroupBlocks) * S::kPositions;
    if (first / S::kPositions < from / S::kPositions) continue;
    const bool cached = first < context;  // else the new position is the block's only one
    if (cached) wait(ring.full[ring.place.stage], ring.place.parity, ring.patience, kStreamPhase);
    const char* stage = ring.data + ring.place.stage * kStageBytes + within * S::kHeadDim * 2;
    uint2 k[Lanes::kTogether], v[Lanes::kTogether];
    int valid = 0;
#pragma unroll
    for (int i = 0; i < Lanes::kTogether; ++i) {
      const int position = first + within + i;
      const bool fresh = position == context;
      const char* keys = fresh ? reinterpret_cast<const char*>(sh.attention.fresh[0]) : stage + i * S::kHeadDim * 2;
      const char* values = fresh ? reinterpret_cast<const char*>(sh.attention.fresh[1]) : stage + i * S::kHeadDim * 2 + kStageBytes / 2;
      k[i] = *reinterpret_cast<const uint2*>(keys + 2 * column);
      v[i] = *reinterpret_cast<const uint2*>(values + 2 * column);
      if (position <= context && position >= from) {
        valid |= 1 << i;
      } else {
        v[i] = make_uint2(0, 0);  // what lies there may be no number
      }
    }
    lanes.add(k, v, valid, lane);
    if (!cached) continue;
    __syncwarp();
    if (lane == 0) arrive(ring.empty[ring.place.stage]);
    ring.place.next();
  }
  lanes.finish(sh.attention, warp, lane);
}

template <class S, bool kTimed>
__device__ void Worker<S, kTimed>::publish_partials(uint32_t epoch) {
  uint64_t* words = p.words + S::kPartials + group * S::kGroupWords;
  const int d = 2 * threadIdx.x;
  if (d >= S::kGroupWidth) return;
  float scale[kWarps], a = 0.0f, b = 0.0f;
  const float2 joined = join_warps(sh.attention, d / S::kHeadDim, scale);
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    const float2 v = *reinterpret_cast<const float2*>(&sh.attention.values[w][d]);
    a += v.x * scale[w], b += v.y * scale[w];
  }
  store_floats(words + (d / 8 * kGroupBlocks + rank) * 4 + d % 8 / 2, a, b, epoch);
  if (d % S::kCombined == 0) {
    uint64_t* to = words + S::kPartialWords + (d / S::kCombined * kGroupBlocks + rank) * 4;
    store_word(to, __float_as_uint(joined.x), 0, epoch);
    store_word(to + 1, __float_as_uint(joined.y), 0, epoch);
  }
}

template <class S, bool kTimed>
__device__ void Worker<S, kTimed>::combine(int layer, uint32_t epoch) {
  static_assert(kGroupBlocks == 16 && S::kCombined % 8 == 0 && S::kCombined / 8 <= kWarps);
  if (warp >= S::kCombined / 8) return;
  const uint64_t* words = p.words + S::kPartials + group * S::kGroupWords;
  const int source = lane % kGroupBlocks, half = lane / kGroupBlocks;
  const uint64_t* at = words + ((rank * (S::kCombined / 8) + warp) * kGroupBlocks + source) * 4 + 2 * half;
  const uint64_t* sum_at = words + S::kPartialWords + (rank * kGroupBlocks + source) * 4;
  WordPair values, sums;
  int n = 0;
  do values = load_words(at), sums = load_words(sum_at), ++n;
  while (__any_sync(kAllLanes, (!values.are_of(epoch) || !sums.are_of(epoch)) && ring.patience.holds(n, where(layer, combination))));
  mark(combination, waiting);
  const float maximum = __uint_as_float(sums.a.low);
  // Both halves of the warp hold the same 16 maxima; as integers they are in the same order.
  const int bits = __float_as_int(maximum), ordered = bits ^ (bits >> 31 & 0x7fffffff);
  const int highest = __reduce_max_sync(kAllLanes, ordered);
  const float top = __int_as_float(highest ^ (highest >> 31 & 0x7fffffff));
  const float scale = maximum > -INFINITY ? power_of_2(maximum - top) : 0.0f;
  float sum = __uint_as_float(sums.b.low) * scale;
#pragma unroll
  for (int offset = 1; offset < kGroupBlocks; offset *= 2) sum += __shfl_xor_sync(kAllLanes, sum, offset);
  const float2 low = floats_of(values.a), high = floats_of(values.b);
  const float o[4] = {low.x * scale, low.y * scale, high.x * scale, high.y * scale};
  // Sums over 16 lanes while the four values spread over them: value i ends on lanes with bits 3 and 2 equal to i.
  const bool b3 = lane & 8, b2 = lane & 4;
  const float first = (b3 ? o[2] : o[0]) + __shfl_xor_sync(kAllLanes, b3 ? o[0] : o[2], 8);
  const float second = (b3 ? o[3] : o[1]) + __shfl_xor_sync(kAllLanes, b3 ? o[1] : o[3], 8);
  float v = (b2 ? second : first) + __shfl_xor_sync(kAllLanes, b2 ? first : second, 4);
  v += __shfl_xor_sync(kAllLanes, v, 1);
  v += __shfl_xor_sync(kAllLanes, v, 2);
  v = __shfl_sync(kAllLanes, __fdividef(v, sum), lane % 8 * 4);
  publish(S::kAttention, group * S::kGroupWidth + rank * S::kCombined + 8 * warp + lane, lane < 8, v, epoch);
  mark(combination, computing);
}

template <class S, bool kTimed>
__device__ void Worker<S, kTimed>::attention_phase(const Layer& l, int layer, uint32_t epoch) {
  make_head(l, layer, epoch);
  meet_workers();
  attend(l);
  meet_workers();
  publish_partials(epoch);
  append(layer);
  mark(attention, computing);
  combine(layer, epoch);
}

}  // namespace bolide::decode
