// A block's part of attention for the new token: the query heads of one key/value head over the blocks of positions that it owns.
//
// A stage of K and V goes to the warps in shares of positions, four to a group of Dh / 4 lanes, of which each lane has four elements of the
// head: so the weighted values need no exchange, and the scores' sums over lanes spread over them on the way (each lane ends with one
// position and head). Softmax is kept online by every group (Milakov, Gimelshein, arXiv:1805.02867), in base 2.
#pragma once

#include "cuda/decode/products.cuh"

namespace bolide::decode {

__device__ inline float power_of_2(float v) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
}

template <class S>
struct AttentionShared {
  alignas(16) float q[S::kQueryHeads][S::kHeadDim];  // normed, rotated, times softmax_scale * log2(e)
  alignas(16) __nv_bfloat16 fresh[2][S::kHeadDim];   // the new position's K and V
  alignas(16) float values[kWarps][S::kGroupWidth];  // the warps' sums of weighted values
  alignas(16) float maximum[S::kQueryHeads][kWarps], sum[S::kQueryHeads][kWarps];
};

template <class S>
struct Softmax {
  static constexpr int kLanes = S::kHeadDim / 4, kGroups = 32 / kLanes;  // lanes that share a position
  static constexpr int kTogether = 4;                                    // positions
  static constexpr int kScores = kTogether * S::kQueryHeads, kReplicas = kLanes / kScores;
  static_assert(kReplicas >= 1 && kGroups <= 2 && kTogether * kGroups * kWarps == S::kPositions);

  float q[S::kQueryHeads][4], values[S::kQueryHeads][4] = {};
  float maximum = -INFINITY, sum = 0.0f;  // of the lane's head; the sum of its own positions alone

  // First lane of the group, and the lane's position and head.
  __device__ static int score(int lane) { return lane % kLanes / kReplicas; }
  __device__ static int position(int lane) { return score(lane) / S::kQueryHeads; }
  __device__ static float of_head(float v, int head, int lane) {
    return __shfl_sync(kAllLanes, v, lane / kLanes * kLanes + head * kReplicas);
  }

  __device__ void start(const AttentionShared<S>& sh, int lane) {
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
      for (int h = 0; h < S::kQueryHeads; ++h) s[i * S::kQueryHeads + h] = (q[h][0] * a + q[h][1] * b) + (q[h][2] * c + q[h][3] * d);
    }
    // Half of the scores go to half of the lanes, and so on, until each has one.
    int offset = kLanes / 2;
#pragma unroll
    for (int n = kScores / 2; n >= 1; n /= 2, offset /= 2) {
      const bool upper = lane & offset;
#pragma unroll
      for (int i = 0; i < n; ++i) {
        const float keep = upper ? s[n + i] : s[i], send = upper ? s[i] : s[n + i];
        s[i] = keep + __shfl_xor_sync(kAllLanes, send, offset);
      }
    }
#pragma unroll
    for (; offset >= 1; offset /= 2) s[0] += __shfl_xor_sync(kAllLanes, s[0], offset);

    const bool own = valid >> position(lane) & 1;
    float top = own ? s[0] : -INFINITY;
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, kLanes / 2));
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, kLanes / 4));
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
        const float w = of_head(weight, i * S::kQueryHeads + h, lane);
        values[h][0] += w * a, values[h][1] += w * b, values[h][2] += w * c, values[h][3] += w * d;
      }
    }
  }

  // Leaves the warp's result in shared memory.
  __device__ void finish(AttentionShared<S>& sh, int warp, int lane) {
    sum += __shfl_xor_sync(kAllLanes, sum, kLanes / 2);
    sum += __shfl_xor_sync(kAllLanes, sum, kLanes / 4);
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
    if (lane >= kLanes) return;
#pragma unroll
    for (int h = 0; h < S::kQueryHeads; ++h)
      *reinterpret_cast<float4*>(&sh.values[warp][h * S::kHeadDim + 4 * lane]) =
          make_float4(values[h][0], values[h][1], values[h][2], values[h][3]);
    if (lane % kReplicas == 0 && position(lane) == 0) {
      sh.maximum[score(lane)][warp] = maximum;
      sh.sum[score(lane)][warp] = sum;
    }
  }
};

// The block's maximum and sum of a head, and each warp's factor.
template <class S>
__device__ inline float2 join_warps(const AttentionShared<S>& sh, int head, float (&scale)[kWarps]) {
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

}  // namespace bolide::decode
