// Attention rows as a warpgroup's matrix products hold them (device/wgmma.cuh): a thread has parts of two rows, 8 apart, the four lanes of
// a quad share them. Masking, softmax, rounding of the weights, and the way out.
#pragma once

#include <cuda_bf16.h>

#include "cuda/attention.h"

namespace bolide {

constexpr unsigned kAllLanes = 0xffffffffu;

// 2^x to within 2 ulp, 0 for anything below 2^-126.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// Scores of keys that a row must not see become -inf; position: of the thread's first row, base: of the tile's first key.
template <int kCount>
__device__ inline void hide(const AttentionParameters& p, int base, int position, float (&s)[kCount]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = position + half * 8, key = base + (threadIdx.x & 3) * 2;
    const int last = row - key, first = first_visible(p, row) - key;
#pragma unroll
    for (int n = 0; n < kCount / 4; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        if (n * 8 + e > last || n * 8 + e < first) s[n * 4 + half * 2 + e] = -INFINITY;
      }
    }
  }
}

// Running maximum of the unscaled scores and sum of the weights of a thread's two rows.
struct Softmax {
  float m[2] = {-INFINITY, -INFINITY}, l[2] = {0.0f, 0.0f};  // l: this thread's columns alone

  // Scores become weights 2^(scale (s - m)); factor: what the earlier weights are to be multiplied by, exactly 1 where m stays.
  template <int kCount>
  __device__ inline void apply(float (&s)[kCount], float scale, float (&factor)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top[2] = {m[half], -INFINITY};
#pragma unroll
      for (int n = 0; n < kCount / 4; ++n) {
        top[0] = fmaxf(top[0], s[n * 4 + half * 2]);
        top[1] = fmaxf(top[1], s[n * 4 + half * 2 + 1]);
      }
      float highest = fmaxf(top[0], top[1]);
      highest = fmaxf(highest, __shfl_xor_sync(kAllLanes, highest, 1));
      highest = fmaxf(highest, __shfl_xor_sync(kAllLanes, highest, 2));
      // The products are rounded before the difference: earlier weights were made with the rounded one.
      const float shift = highest == -INFINITY ? 0.0f : __fmul_rn(highest, scale);
      factor[half] = exp2_fast(__fsub_rn(__fmul_rn(m[half], scale), shift));
      m[half] = highest;
      float sum[2] = {0.0f, 0.0f};
#pragma unroll
      for (int n = 0; n < kCount / 4; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& v = s[n * 4 + half * 2 + e];
          v = exp2_fast(fmaf(v, scale, -shift));
          sum[e] += v;
        }
      }
      l[half] = fmaf(l[half], factor[half], sum[0] + sum[1]);
    }
  }
};

template <int kCount>
__device__ inline void pack_weights(const float (&s)[kCount], uint32_t (&weights)[kCount / 2]) {
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) weights[i] = pack(s[2 * i], s[2 * i + 1]);
}

// The four lanes of a quad hold one word of each of four blocks; afterwards lane i holds the four words of block i, in their order.
__device__ inline void transpose_quad(uint32_t (&w)[4]) {
  const bool odd = threadIdx.x & 1, upper = threadIdx.x & 2;
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const uint32_t other = __shfl_xor_sync(kAllLanes, odd ? w[i] : w[i + 1], 1);
    (odd ? w[i] : w[i + 1]) = other;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t other = __shfl_xor_sync(kAllLanes, upper ? w[i] : w[i + 2], 2);
    (upper ? w[i] : w[i + 2]) = other;
  }
}

// Stores o / l of the thread's rows `row` and `row` + 8 of a tile of one head whose first row is the step's first_row, where they are
// among the tile's `rows`. The quad's lanes exchange their parts, so that each stores 16 bytes at once.
template <int kCount>
__device__ inline void store_rows(const AttentionParameters& p, int first_row, int rows, int head, int row, const Softmax& softmax,
                                  const float (&o)[kCount]) {
  constexpr int kDh = 2 * kCount;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float l = softmax.l[half];
    l += __shfl_xor_sync(kAllLanes, l, 1);
    l += __shfl_xor_sync(kAllLanes, l, 2);
    const float inverse = 1.0f / l;
    const int at = row + half * 8;
    __nv_bfloat16* to = static_cast<__nv_bfloat16*>(p.out) + (static_cast<int64_t>(first_row + at) * p.heads + head) * kDh;
#pragma unroll
    for (int block = 0; block < kDh / 8; block += 4) {
      uint32_t w[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) w[i] = pack(o[(block + i) * 4 + half * 2] * inverse, o[(block + i) * 4 + half * 2 + 1] * inverse);
      transpose_quad(w);
      if (at < rows) *reinterpret_cast<uint4*>(to + (block + (threadIdx.x & 3)) * 8) = make_uint4(w[0], w[1], w[2], w[3]);
    }
  }
}

}  // namespace bolide
