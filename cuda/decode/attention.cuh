// A block's part of attention for the new token: the query heads of one key/value head over the blocks of positions that it owns.
//
// A stage of K and V goes to the warps in shares of positions, four to a group of Dh / 4 lanes, of which each lane has four elements of the
// head: so the weighted values need no exchange, and the scores' sums over lanes spread over them on the way (each lane ends with one
// position and head). Softmax is kept online by every group (Milakov, Gimelshein, arXiv:1805.02867), in base 2.
#pragma once

#include "cuda/decode/products.cuh"
#include "cuda/device/reduce.cuh"

namespace bolide::decode {

__device__ inline float power_of_2(float v) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
}

// A row's heads of the block's key/value head.
template <class S>
struct HeadsShared {
  alignas(16) float q[S::kQueryHeads][S::kHeadDim];  // normed, rotated, times softmax_scale * log2(e)
  alignas(16) __nv_bfloat16 fresh[2][S::kHeadDim];   // the new position's K and V
};
// Several rows: where two warps share one, the second hands its results to the first.
template <class S, bool kTwoWarps = true>
struct RowShared : HeadsShared<S> {
  alignas(16) float values[S::kGroupWidth];
  float maximum[S::kQueryHeads], sum[S::kQueryHeads];
};
template <class S>
struct RowShared<S, false> : HeadsShared<S> {};
template <class S, int kRows>
struct AttentionShared {
  static constexpr int kOfBlock = S::kBlocksOfRow ? 1 : kRows;  // rows that it has attention for
  RowShared<S, (kWarps > kRows && !S::kBlocksOfRow)> row[kOfBlock];
  alignas(16) float4 turns[kOfBlock][S::kTurns / 2][32];  // by lane: cosine and sine of two of the pairs that it rotates
};
template <class S, bool kPositionsShared = !S::kHeadOfWarp>
struct WarpsShared {
  alignas(16) float values[kWarps][S::kGroupWidth];  // the warps' sums of weighted values
  alignas(16) float maximum[S::kQueryHeads][kWarps], sum[S::kQueryHeads][kWarps];
};
template <class S>
struct WarpsShared<S, false> {};
template <class S>
struct AttentionShared<S, 1> : HeadsShared<S>, WarpsShared<S> {};

// Norm and rotation of a head by a warp: a lane has the pairs of elements 2 lane, 2 lane + 1 (low) and Dh / 2 further (high).
template <class S>
struct HeadMaker {
  static constexpr int kHalf = S::kHeadDim / 2, kQ = S::kQueryHeads;
  using Words = Word;  // of the lane's low elements, and of its high ones
  bool is_q, is_v, active, norm;
  int at;  // of the lane's first element
  float2 low_weight{1.0f, 1.0f}, high_weight{1.0f, 1.0f};

  // Before the head is there. head: query heads, then K, then V.
  __device__ void start(const Layer& l, int head, int lane) {
    is_q = head < kQ, is_v = head == kQ + 1, active = lane < S::kHeadDim / 4;
    const float* weights = is_q ? l.q_norm : is_v ? nullptr : l.k_norm;
    norm = weights != nullptr;
    at = 2 * (active ? lane : 0);
    if (!norm) return;
    low_weight = *reinterpret_cast<const float2*>(weights + at);
    high_weight = *reinterpret_cast<const float2*>(weights + kHalf + at);
  }
  __device__ static Words load(const uint64_t* from) { return load_word(from); }
  __device__ static bool are_of(const Words& words, uint32_t epoch) { return words.is_of(epoch); }
  // turn: cosine and sine of the pairs 2 lane and 2 lane + 1.
  __device__ void finish(const Words& low, const Words& high, const float2 (&turn)[2], const Parameters& p, HeadsShared<S>& to,
                         int head) const {
    finish(floats_of(low), floats_of(high), turn, p, to, head);
  }
  __device__ void finish(float2 low, float2 high, const float2 (&turn)[2], const Parameters& p, HeadsShared<S>& to, int head) const {
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
      *reinterpret_cast<float2*>(&to.q[head][at]) = make_float2(low.x * scale, low.y * scale);
      *reinterpret_cast<float2*>(&to.q[head][kHalf + at]) = make_float2(high.x * scale, high.y * scale);
      return;
    }
    *reinterpret_cast<uint32_t*>(&to.fresh[is_v][at]) = pack_bf16(low.x, low.y);
    *reinterpret_cast<uint32_t*>(&to.fresh[is_v][kHalf + at]) = pack_bf16(high.x, high.y);
  }
};
// Cosine and sine of the pairs that a lane of HeadMaker or WideHeadMaker has.
template <class S>
__device__ inline void make_turn(int position, const float* inverse_frequencies, int lane, float2 (&turn)[S::kTurns]) {
#pragma unroll
  for (int i = 0; i < S::kTurns; ++i) {
    // The product is rounded to float32 before cosine and sine are taken of it, as transformers does.
    if (lane < S::kHeadDim / 4)
      sincosf(__fmul_rn(static_cast<float>(position), inverse_frequencies[S::kTurns * lane + i]), &turn[i].y, &turn[i].x);
  }
}

// kTogether: positions that a group takes at a time, 4 or 8.
template <class S, int kTogether_ = 4>
struct Softmax {
  static constexpr int kLanes = S::kHeadDim / 4, kGroups = 32 / kLanes;  // lanes that share a position
  static constexpr int kTogether = kTogether_;
  // The scores are shared out by halves: heads that there are not make their number a power of two.
  static constexpr int kHeads = S::kQueryHeads <= 2 ? S::kQueryHeads : S::kQueryHeads <= 4 ? 4 : 8;
  static constexpr int kScores = kTogether * kHeads, kReplicas = kLanes / kScores;
  static constexpr int kHalvings = kScores == 4 ? 2 : kScores == 8 ? 3 : kScores == 16 ? 4 : 5;
  static_assert(kReplicas >= 1 && kGroups <= 2 && kScores == 1 << kHalvings);

  float q[S::kQueryHeads][4], values[S::kQueryHeads][4] = {};
  float maximum = -INFINITY, sum = 0.0f;  // of the lane's head; the sum of its own positions alone

  // First lane of the group, and the lane's position and head.
  __device__ static int score(int lane) { return lane % kLanes / kReplicas; }
  __device__ static int position(int lane) { return score(lane) / kHeads; }
  __device__ static float of_head(float v, int head, int lane) {
    return __shfl_sync(kAllLanes, v, lane / kLanes * kLanes + head * kReplicas);
  }

  __device__ void start(const HeadsShared<S>& sh, int lane) {
#pragma unroll
    for (int h = 0; h < S::kQueryHeads; ++h) {
      const float4 v = *reinterpret_cast<const float4*>(&sh.q[h][4 * (lane % kLanes)]);
      q[h][0] = v.x, q[h][1] = v.y, q[h][2] = v.z, q[h][3] = v.w;
    }
  }

  // k, v: the lane's elements of the group's positions; valid: bit i for position i, the same in the whole group. v of others is zero.
  __device__ void add(const uint2 (&k)[kTogether], const uint2 (&v)[kTogether], int valid, int lane) {
    float s[kScores];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const float a = low_bf16(k[i].x), b = high_bf16(k[i].x), c = low_bf16(k[i].y), d = high_bf16(k[i].y);
#pragma unroll
      for (int h = 0; h < kHeads; ++h)
        s[i * kHeads + h] = h < S::kQueryHeads ? (q[h][0] * a + q[h][1] * b) + (q[h][2] * c + q[h][3] * d) : 0.0f;
    }
    // Half of the scores go to half of the lanes, and so on, until each has one. Both loops count to constants: an inner one to n was not
    // unrolled for 16 scores, which then lay in memory.
#pragma unroll
    for (int step = 0; step < kHalvings; ++step) {
      const int n = kScores >> (step + 1), offset = kLanes >> (step + 1);
      const bool upper = lane & offset;
#pragma unroll
      for (int i = 0; i < kScores / 2; ++i) {
        if (i >= n) break;
        const float keep = upper ? s[n + i] : s[i], send = upper ? s[i] : s[n + i];
        s[i] = keep + __shfl_xor_sync(kAllLanes, send, offset);
      }
    }
#pragma unroll
    for (int offset = kReplicas / 2; offset >= 1; offset /= 2) s[0] += __shfl_xor_sync(kAllLanes, s[0], offset);

    const bool own = valid >> position(lane) & 1;
    float top = own ? s[0] : -INFINITY;
#pragma unroll
    for (int n = kTogether; n > 1; n /= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, kLanes / 2 * n / kTogether));
    top = fmaxf(top, maximum);
    const float weight = own ? power_of_2(s[0] - top) : 0.0f;
    if (__any_sync(kAllLanes, top > maximum)) {
      const float scale = top > maximum ? power_of_2(maximum - top) : 1.0f;
      sum *= scale;
#pragma unroll
      for (int h = 0; h < S::kQueryHeads; ++h) {
        const float f = of_head(scale, h, lane);
#pragma unroll
        for (int j = 0; j < 4; ++j) values[h][j] *= f;
      }
      maximum = top;
    }
    sum += weight;
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const float a = low_bf16(v[i].x), b = high_bf16(v[i].x), c = low_bf16(v[i].y), d = high_bf16(v[i].y);
#pragma unroll
      for (int h = 0; h < S::kQueryHeads; ++h) {
        const float w = of_head(weight, i * kHeads + h, lane);
        values[h][0] += w * a, values[h][1] += w * b, values[h][2] += w * c, values[h][3] += w * d;
      }
    }
  }

  // Joins the lanes' sums and the groups' results: lanes below kLanes have the warp's.
  __device__ void join(int lane) {
#pragma unroll
    for (int n = kTogether; n > 1; n /= 2) sum += __shfl_xor_sync(kAllLanes, sum, kLanes / 2 * n / kTogether);
    if (kGroups == 2) {
      const float top = fmaxf(maximum, __shfl_xor_sync(kAllLanes, maximum, 16));
      const float scale = maximum > -INFINITY ? power_of_2(maximum - top) : 0.0f;
      sum *= scale;
      sum += __shfl_xor_sync(kAllLanes, sum, 16);
      maximum = top;
#pragma unroll
      for (int h = 0; h < S::kQueryHeads; ++h) {
        const float f = of_head(scale, h, lane);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          values[h][j] *= f;
          values[h][j] += __shfl_xor_sync(kAllLanes, values[h][j], 16);
        }
      }
    }
  }
  // The lane that has a head's maximum and sum for `sh`.
  __device__ static bool speaks(int lane) {
    return lane < kLanes && lane % kReplicas == 0 && position(lane) == 0 && (kHeads == S::kQueryHeads || score(lane) < S::kQueryHeads);
  }
  // A team's second warp leaves its result, and the first takes it.
  __device__ void leave(RowShared<S>& sh, int lane) const {
#pragma unroll
    for (int h = 0; h < S::kQueryHeads; ++h)
      if (lane < kLanes)
        *reinterpret_cast<float4*>(&sh.values[h * S::kHeadDim + 4 * lane]) =
            make_float4(values[h][0], values[h][1], values[h][2], values[h][3]);
    if (speaks(lane)) sh.maximum[score(lane)] = maximum, sh.sum[score(lane)] = sum;
  }
  __device__ void take(const RowShared<S>& sh, int lane) {
    const int head = kHeads == S::kQueryHeads ? score(lane) % kHeads : min(score(lane) % kHeads, S::kQueryHeads - 1);
    const float other = sh.maximum[head], top = fmaxf(maximum, other);
    const float scale = maximum > -INFINITY ? power_of_2(maximum - top) : 0.0f,
                other_scale = other > -INFINITY ? power_of_2(other - top) : 0.0f;
    sum = sum * scale + sh.sum[head] * other_scale;
    maximum = top;
#pragma unroll
    for (int h = 0; h < S::kQueryHeads; ++h) {
      const float f = of_head(scale, h, lane), g = of_head(other_scale, h, lane);
      const float4 v = *reinterpret_cast<const float4*>(&sh.values[h * S::kHeadDim + 4 * (lane % kLanes)]);
      values[h][0] = values[h][0] * f + v.x * g, values[h][1] = values[h][1] * f + v.y * g;
      values[h][2] = values[h][2] * f + v.z * g, values[h][3] = values[h][3] * f + v.w * g;
    }
  }
  // Leaves the warp's result in shared memory.
  __device__ void finish(AttentionShared<S, 1>& sh, int warp, int lane) {
    join(lane);
    if (lane >= kLanes) return;
#pragma unroll
    for (int h = 0; h < S::kQueryHeads; ++h)
      *reinterpret_cast<float4*>(&sh.values[warp][h * S::kHeadDim + 4 * lane]) =
          make_float4(values[h][0], values[h][1], values[h][2], values[h][3]);
    if (speaks(lane)) {
      sh.maximum[score(lane)][warp] = maximum;
      sh.sum[score(lane)][warp] = sum;
    }
  }
};

// The lane's elements, from `column` on, of positions first, first + 1, ... of a block that begins at `stage` (K rows, then V rows), the
// new one's from where it was made. Returns which of them the row at position `context` sees, bit i for the i-th; v of others is zero.
template <class S, int N>
__device__ inline int load_positions(const char* stage, const HeadsShared<S>& heads, int first, int from, int context, int column,
                                     uint2 (&k)[N], uint2 (&v)[N]) {
  int valid = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int position = first + i;
    const bool fresh = position == context;
    const char* keys = fresh ? reinterpret_cast<const char*>(heads.fresh[0]) : stage + i * S::kHeadDim * 2;
    const char* values = fresh ? reinterpret_cast<const char*>(heads.fresh[1]) : stage + i * S::kHeadDim * 2 + kStageBytes / 2;
    k[i] = *reinterpret_cast<const uint2*>(keys + 2 * column);
    v[i] = *reinterpret_cast<const uint2*>(values + 2 * column);
    if (position <= context && position >= from) {
      valid |= 1 << i;
    } else {
      v[i] = make_uint2(0, 0);  // what lies there may be no number
    }
  }
  return valid;
}

// The block's maximum and sum of a head, and each warp's factor.
template <class S>
__device__ inline float2 join_warps(const AttentionShared<S, 1>& sh, int head, float (&scale)[kWarps]) {
  float top = -INFINITY, total = 0.0f;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) top = fmaxf(top, scale[w] = sh.maximum[head][w]);
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    scale[w] = scale[w] > -INFINITY ? power_of_2(scale[w] - top) : 0.0f;
    total += sh.sum[head][w] * scale[w];
  }
  return make_float2(top, total);
}

// What a lane has of all blocks' parts of 8 outputs: four values of source lane % 16, of the lower or upper half, with their maximum and
// sum.
struct PartialWords {
  WordPair values, sums;
};
// words: of the group; rank: which share of the outputs, and `part` which 8 of it.
template <class S>
__device__ inline PartialWords poll_partials(const uint64_t* words, int rank, int part, int lane, uint32_t epoch, Patience& patience,
                                             uint32_t phase) {
  static_assert(S::kWhole && kGroupBlocks == 16 && S::kCombined % 8 == 0 && S::kCombined / 8 <= kWarps);
  const int source = lane % kGroupBlocks, half = lane / kGroupBlocks;
  const uint64_t* at = words + ((rank * (S::kCombined / 8) + part) * kGroupBlocks + source) * 4 + 2 * half;
  const uint64_t* sum_at =
      words + S::kPartialWords + (rank * kGroupBlocks + source) * 4 + 2 * S::head_in_share(rank * S::kCombined + 8 * part);
  PartialWords got;
  int n = 0;
  do got.values = load_words(at), got.sums = load_words(sum_at), ++n;
  while (__any_sync(kAllLanes, (!got.values.are_of(epoch) || !got.sums.are_of(epoch)) && patience.holds(n, phase)));
  return got;
}
// Output lane % 8 of the 8.
__device__ inline float combine_partials(const PartialWords& partial, int lane) {
  const float maximum = __uint_as_float(partial.sums.a.low);
  // Both halves of the warp hold the same 16 maxima; as integers they are in the same order.
  const int bits = __float_as_int(maximum), ordered = bits ^ (bits >> 31 & 0x7fffffff);
  const int highest = __reduce_max_sync(kAllLanes, ordered);
  const float top = __int_as_float(highest ^ (highest >> 31 & 0x7fffffff));
  const float scale = maximum > -INFINITY ? power_of_2(maximum - top) : 0.0f;
  float sum = __uint_as_float(partial.sums.b.low) * scale;
#pragma unroll
  for (int offset = 1; offset < kGroupBlocks; offset *= 2) sum += __shfl_xor_sync(kAllLanes, sum, offset);
  const float2 low = floats_of(partial.values.a), high = floats_of(partial.values.b);
  const float o[4] = {low.x * scale, low.y * scale, high.x * scale, high.y * scale};
  // Sums over 16 lanes while the four values spread over them: value i ends on lanes with bits 3 and 2 equal to i.
  const bool b3 = lane & 8, b2 = lane & 4;
  const float first = (b3 ? o[2] : o[0]) + __shfl_xor_sync(kAllLanes, b3 ? o[0] : o[2], 8);
  const float second = (b3 ? o[3] : o[1]) + __shfl_xor_sync(kAllLanes, b3 ? o[1] : o[3], 8);
  float v = (b2 ? second : first) + __shfl_xor_sync(kAllLanes, b2 ? first : second, 4);
  v += __shfl_xor_sync(kAllLanes, v, 1);
  v += __shfl_xor_sync(kAllLanes, v, 2);
  return __shfl_sync(kAllLanes, __fdividef(v, sum), lane % 8 * 4);
}

}  // namespace bolide::decode
