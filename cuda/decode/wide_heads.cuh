// Heads of 256 (attention.cuh has those of 64 and 128): a lane of a warp has eight elements, so that a warp takes a position at a time.
//
// A block of 16 positions fills a stage. Where eight query heads share a key/value head, each is a warp's, for all 16 positions: every warp
// reads all of K and V from shared memory, 128 KB in 1,024 clocks, where the stage's copy takes some 1,200; but each ends with the
// block's result for its head in registers and publishes it from there, where eight warps with two positions each would leave 64 KB of
// values to be added up. Where a query head is alone, the warps share out the positions.
#pragma once

#include "cuda/decode/attention.cuh"

namespace bolide::decode {

// Norm and rotation of a head by a warp: a lane has elements 4 lane .. 4 lane + 3 (low) and those 128 further (high).
template <class S>
struct WideHeadMaker {
  static constexpr int kHalf = S::kHeadDim / 2, kQ = S::kQueryHeads;
  using Words = WordPair;
  bool is_q, is_v, norm;
  int at;  // of the lane's first element
  float4 low_weight{1.0f, 1.0f, 1.0f, 1.0f}, high_weight{1.0f, 1.0f, 1.0f, 1.0f};

  // Before the head is there. head: query heads, then K, then V.
  __device__ void start(const Layer& l, int head, int lane) {
    is_q = head < kQ, is_v = head == kQ + 1, at = 4 * lane;
    const float* weights = is_q ? l.q_norm : is_v ? nullptr : l.k_norm;
    norm = weights != nullptr;
    if (!norm) return;
    low_weight = *reinterpret_cast<const float4*>(weights + at);
    high_weight = *reinterpret_cast<const float4*>(weights + kHalf + at);
  }
  __device__ static Words load(const uint64_t* from) { return load_words(from); }
  __device__ static bool are_of(const Words& words, uint32_t epoch) { return words.are_of(epoch); }
  // words: of the lane's low and of its high elements; turn: cosine and sine of the pairs 4 lane .. 4 lane + 3.
  __device__ void finish(const WordPair& low_words, const WordPair& high_words, const float2 (&turn)[S::kTurns], const Parameters& p,
                         HeadsShared<S>& to, int head) const {
    const float2 l0 = floats_of(low_words.a), l1 = floats_of(low_words.b), h0 = floats_of(high_words.a), h1 = floats_of(high_words.b);
    float low[4] = {l0.x, l0.y, l1.x, l1.y}, high[4] = {h0.x, h0.y, h1.x, h1.y};
    if (norm) {
      float squares = 0.0f;
#pragma unroll
      for (int i = 0; i < 4; ++i) squares += low[i] * low[i] + high[i] * high[i];
      const float scale = rsqrtf(warp_sum(squares) / S::kHeadDim + p.norm_eps);
      low[0] *= scale * low_weight.x, low[1] *= scale * low_weight.y, low[2] *= scale * low_weight.z, low[3] *= scale * low_weight.w;
      high[0] *= scale * high_weight.x, high[1] *= scale * high_weight.y, high[2] *= scale * high_weight.z,
          high[3] *= scale * high_weight.w;
    }
    if (!is_v) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float a = low[i], b = high[i];
        low[i] = a * turn[i].x - b * turn[i].y, high[i] = b * turn[i].x + a * turn[i].y;
      }
    }
    if (is_q) {
      const float scale = p.softmax_scale * 1.4426950408889634f;
      *reinterpret_cast<float4*>(&to.q[head][at]) = make_float4(low[0] * scale, low[1] * scale, low[2] * scale, low[3] * scale);
      *reinterpret_cast<float4*>(&to.q[head][kHalf + at]) = make_float4(high[0] * scale, high[1] * scale, high[2] * scale, high[3] * scale);
      return;
    }
    *reinterpret_cast<uint2*>(&to.fresh[is_v][at]) = make_uint2(pack_bf16(low[0], low[1]), pack_bf16(low[2], low[3]));
    *reinterpret_cast<uint2*>(&to.fresh[is_v][kHalf + at]) = make_uint2(pack_bf16(high[0], high[1]), pack_bf16(high[2], high[3]));
  }
};

// Attention of a warp's query head over its positions of a block, kTogether of them; softmax is kept online, in base 2.
template <class S, int kTogether_ = S::kTogether>
struct WideSoftmax {
  static constexpr int kTogether = kTogether_, kReplicas = 32 / kTogether;  // lanes that end with the same score
  static constexpr int kLanes = 32, kGroups = 1;                            // of lanes that share a position

  float q[8], values[8] = {};
  float maximum = -INFINITY, sum = 0.0f;  // the sum of the lane's own positions alone

  __device__ void start(const HeadsShared<S>& sh, int head, int lane) {
    const float4 a = *reinterpret_cast<const float4*>(&sh.q[head][8 * lane]),
                 b = *reinterpret_cast<const float4*>(&sh.q[head][8 * lane + 4]);
    q[0] = a.x, q[1] = a.y, q[2] = a.z, q[3] = a.w, q[4] = b.x, q[5] = b.y, q[6] = b.z, q[7] = b.w;
  }

  // stage: K of position `first`, with the others' behind it, V half a stage further; the new one's (`context`) from where it was made.
  __device__ void add(const char* stage, const HeadsShared<S>& heads, int first, int from, int context, int lane) {
    const auto row_at = [&](int i, int kind) {
      const bool fresh = first + i == context;
      const char* row = fresh ? reinterpret_cast<const char*>(heads.fresh[kind]) : stage + i * S::kHeadDim * 2 + kind * (kStageBytes / 2);
      return *reinterpret_cast<const uint4*>(row + 16 * lane);
    };
    float s[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const uint4 k = row_at(i, 0);
      s[i] = ((q[0] * low_bf16(k.x) + q[1] * high_bf16(k.x)) + (q[2] * low_bf16(k.y) + q[3] * high_bf16(k.y))) +
             ((q[4] * low_bf16(k.z) + q[5] * high_bf16(k.z)) + (q[6] * low_bf16(k.w) + q[7] * high_bf16(k.w)));
    }
    // Half of the scores go to half of the lanes, and so on, until each has one: lane's is that of position lane / kReplicas.
#pragma unroll
    for (int offset = 16; offset >= kReplicas; offset /= 2) {
      const int n = offset / kReplicas;
      const bool upper = lane & offset;
#pragma unroll
      for (int i = 0; i < kTogether / 2; ++i) {
        if (i >= n) break;
        const float keep = upper ? s[n + i] : s[i], send = upper ? s[i] : s[n + i];
        s[i] = keep + __shfl_xor_sync(kAllLanes, send, offset);
      }
    }
#pragma unroll
    for (int offset = kReplicas / 2; offset >= 1; offset /= 2) s[0] += __shfl_xor_sync(kAllLanes, s[0], offset);

    const auto seen = [&](int i) { return first + i <= context && first + i >= from; };
    const bool own = seen(lane / kReplicas);
    float top = own ? s[0] : -INFINITY;
#pragma unroll
    for (int offset = 16; offset >= kReplicas; offset /= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, offset));
    if (top > maximum) {  // for all lanes alike
      const float scale = power_of_2(maximum - top);
      sum *= scale;
#pragma unroll
      for (int j = 0; j < 8; ++j) values[j] *= scale;
      maximum = top;
    }
    const float weight = own ? power_of_2(s[0] - maximum) : 0.0f;
    sum += weight;
    uint32_t landed = 0;
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const float w = __shfl_sync(kAllLanes, weight, i * kReplicas);
      const uint4 row = row_at(i, 1);
      landed |= row.w;
      const uint4 v = seen(i) ? row : make_uint4(0, 0, 0, 0);  // what lies there may be no number
      values[0] += w * low_bf16(v.x), values[1] += w * high_bf16(v.x), values[2] += w * low_bf16(v.y), values[3] += w * high_bf16(v.y);
      values[4] += w * low_bf16(v.z), values[5] += w * high_bf16(v.z), values[6] += w * low_bf16(v.w), values[7] += w * high_bf16(v.w);
    }
    if (landed == 0x7fbadbadu) __nanosleep(20);  // as in take(): all reads have ended before the slot is handed back
  }
  __device__ void join(int) {
#pragma unroll
    for (int offset = 16; offset >= kReplicas; offset /= 2) sum += __shfl_xor_sync(kAllLanes, sum, offset);
  }
  // With several rows, as Softmax's: a team's second warp leaves its result, and the first takes it.
  __device__ void leave(RowShared<S>& sh, int lane) const {
    float* to = &sh.values[8 * lane];
    *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
    *reinterpret_cast<float4*>(to + 4) = make_float4(values[4], values[5], values[6], values[7]);
    if (lane == 0) sh.maximum[0] = maximum, sh.sum[0] = sum;
  }
  __device__ void take(const RowShared<S>& sh, int lane) {
    const float other = sh.maximum[0], top = fmaxf(maximum, other);
    const float scale = maximum > -INFINITY ? power_of_2(maximum - top) : 0.0f,
                other_scale = other > -INFINITY ? power_of_2(other - top) : 0.0f;
    sum = sum * scale + sh.sum[0] * other_scale;
    maximum = top;
#pragma unroll
    for (int j = 0; j < 8; ++j) values[j] = values[j] * scale + sh.values[8 * lane + j] * other_scale;
  }
};

}  // namespace bolide::decode
