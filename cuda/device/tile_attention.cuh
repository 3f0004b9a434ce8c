// Attention of one row over one tile of K and V in shared memory, by one warp on the tensor cores, for all query heads of a kv head:
//   scores [heads, 64] = q [heads, Dh] K^T   mma.m16n8k16, A = q (heads in the upper half), B = K as it lies in memory
//   out^T [Dh, heads] = V^T P^T              the same, A = V^T (pairs of positions put together by byte permutation), B = P
// so that the scores' accumulators are P's fragments (Dao, "FlashAttention-2", arXiv:2307.08691). The order of k within a fragment does not
// matter as long as both operands agree, so every load is as wide as it may be. A tile is taken whole: one maximum, no rescaling.
// K and V bfloat16: operands are bfloat16, P is rounded to it. K and V e4m3: operands are float16, which holds e4m3 exactly and rounds P
// less; q, which may be beyond float16, is divided by a power of two where it is. Scores, softmax and sums are float32.
#pragma once

#include <cuda_fp8.h>

#include "cuda/device/attention_rows.cuh"
#include "cuda/device/convert.cuh"
#include "cuda/device/kv_tiles.cuh"

namespace bolide {

constexpr int kMaxGroup = 8;  // query heads of a kv head

template <class KV>
__device__ inline void multiply_tile(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  if constexpr (sizeof(KV) == 1)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Two e4m3 in the lower or upper half of a word as float16, exactly. The word's halves are named in the assembly: a shift in front of the
// conversion would be an instruction more.
__device__ inline uint32_t widen_f8(uint32_t word, bool upper) {
  uint32_t out;
  if (upper)
    asm("{\n .reg .b16 low, high;\n mov.b32 {low, high}, %1;\n cvt.rn.f16x2.e4m3x2 %0, high;\n}" : "=r"(out) : "r"(word));
  else
    asm("{\n .reg .b16 low, high;\n mov.b32 {low, high}, %1;\n cvt.rn.f16x2.e4m3x2 %0, low;\n}" : "=r"(out) : "r"(word));
  return out;
}
__device__ inline uint32_t pack_half(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// KV: __nv_bfloat16 or __nv_fp8_e4m3. Lane (g, t) = (lane / 4, lane % 4).
template <class KV, int kDh>
struct TileAttention {
  static constexpr bool kNarrow = sizeof(KV) == 1;
  static constexpr int kRowBytes = kDh * static_cast<int>(sizeof(KV)), kBytes = kTileTokens * kRowBytes;  // of K or V
  static constexpr int kSteps = kDh / 16, kHalves = kDh / 64, kBlocks = kTileTokens / 8;
  static constexpr int kStepsPerLoad = kNarrow ? 4 : 2;  // of 16 bytes of K

  const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  float m, l;                 // of head g: maximum of the scores (log2 domain) and sum of the weights
  float o[kHalves][4][4];     // dims first_dim(h) + j and + 4, heads 2 t and 2 t + 1
  uint32_t weights[kBlocks];  // positions 8 b + 2 t and + 1

  // The lane's 8 dims of half h.
  __device__ int first_dim(int h) const { return 64 * h + 8 * g; }

  // tile: K [64][Dh], V [64][Dh] of KV, then q [group][Dh] bf16. Positions outside [low, high) of the tile count as if they were not there,
  // whatever lies there. low < high.
  __device__ void run(const unsigned char* tile, int group, int low, int high, float scale_log2) {
    float score[kBlocks][4];
    const float scale = scores(tile, tile + 2 * kBytes, group, scale_log2, score);
    if (low == 0 && high == kTileTokens) {
      soften<false>(score, scale, 0, 0);
      output<false>(tile + kBytes, 0, 0);
    } else {
      soften<true>(score, scale, low, high);
      output<true>(tile + kBytes, low, high);
    }
  }

  // Leaves o [group][Dh] and (m, l) [group]. All lanes of a quad have the same m and l.
  __device__ void store(float* to, float2* ml, int group) const {
    if (t == 0 && g < group) ml[g] = make_float2(m, l);
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int head = 2 * t + c;
      if (head >= group) continue;
#pragma unroll
      for (int h = 0; h < kHalves; ++h) {
        float4* at = reinterpret_cast<float4*>(to + head * kDh + first_dim(h));
        at[0] = make_float4(o[h][0][c], o[h][1][c], o[h][2][c], o[h][3][c]);
        at[1] = make_float4(o[h][0][2 + c], o[h][1][2 + c], o[h][2][2 + c], o[h][3][2 + c]);
      }
    }
  }

 private:
  // q's fragments, and what the scores are to be multiplied by besides the scale.
  __device__ float load_q(const unsigned char* rows, int group, uint32_t (&q)[kSteps][2]) const {
    const uint4* from = reinterpret_cast<const uint4*>(rows + g * kDh * 2);  // q is bf16
    const uint4 nothing = make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int s = 0; s < kSteps; s += 2) {
      // Wide: dims 16 s + 8 t .. are the load's two steps. Narrow: a load of K is dims 16 s + 16 t .. for four steps, two of q's loads.
      const int index = kNarrow ? s / 4 * 8 + 2 * t + s / 2 % 2 : 2 * s + t;
      const uint4 v = g < group ? from[index] : nothing;
      q[s][0] = v.x, q[s][1] = v.y, q[s + 1][0] = v.z, q[s + 1][1] = v.w;
    }
    if constexpr (kNarrow)
      return halve(q);
    else
      return 1.0f;
  }
  // bfloat16 pairs become float16 ones, divided by the power of two that is returned: 1 unless head g holds values of 2^15 and more.
  __device__ static float halve(uint32_t (&q)[kSteps][2]) {
    uint32_t largest = 0;  // of both elements of the words: without their signs, bfloat16 are in the order of their bits
#pragma unroll
    for (int i = 0; i < 2 * kSteps; ++i) largest = __vmaxu2(largest, q[i / 2][i % 2] & 0x7fff7fffu);
    largest = max(largest & 0xffffu, largest >> 16);
    largest = max(largest, __shfl_xor_sync(kAllLanes, largest, 1));
    largest = max(largest, __shfl_xor_sync(kAllLanes, largest, 2));
    const int excess = max(0, static_cast<int>(largest >> 7) - 127 - 14);
    const float shrink = __uint_as_float(static_cast<uint32_t>(127 - excess) << 23);
    const bool shrinks = __any_sync(kAllLanes, excess > 0);
#pragma unroll
    for (int i = 0; i < 2 * kSteps; ++i) {
      uint32_t& word = q[i / 2][i % 2];
      float low = __uint_as_float(word << 16), high = __uint_as_float(word & 0xffff0000u);
      if (shrinks) low *= shrink, high *= shrink;
      word = pack_half(low, high);
    }
    return __uint_as_float(static_cast<uint32_t>(127 + excess) << 23);
  }

  // Unscaled scores, of which [..][0] and [1] count; returns what they are to be multiplied by. The blocks' products are taken in turn:
  // those of one follow on each other's results.
  __device__ float scores(const unsigned char* k, const unsigned char* q_rows, int group, float scale_log2,
                          float (&score)[kBlocks][4]) const {
    uint32_t q[kSteps][2];
    const float scale = scale_log2 * load_q(q_rows, group, q);
#pragma unroll
    for (int i = 0; i < 4 * kBlocks; ++i) score[i / 4][i % 4] = 0.0f;
#pragma unroll
    for (int s = 0; s < kSteps; s += kStepsPerLoad) {
      uint32_t v[kBlocks][4];
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        const uint4 words = *reinterpret_cast<const uint4*>(k + (8 * b + g) * kRowBytes + s / kStepsPerLoad * 64 + 16 * t);
        v[b][0] = words.x, v[b][1] = words.y, v[b][2] = words.z, v[b][3] = words.w;
      }
#pragma unroll
      for (int i = 0; i < kStepsPerLoad; ++i) {
#pragma unroll
        for (int b = 0; b < kBlocks; ++b) {
          if constexpr (kNarrow)
            multiply_tile<KV>(score[b], q[s + i][0], 0, q[s + i][1], 0, widen_f8(v[b][i], false), widen_f8(v[b][i], true));
          else
            multiply_tile<KV>(score[b], q[s + i][0], 0, q[s + i][1], 0, v[b][2 * i], v[b][2 * i + 1]);
        }
      }
    }
    return scale;
  }

  // Scores become weights; m and l.
  template <bool kBounded>
  __device__ void soften(float (&score)[kBlocks][4], float scale, int low, int high) {
    m = -INFINITY;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int position = 8 * b + 2 * t + c;
        score[b][c] = !kBounded || (position >= low && position < high) ? score[b][c] * scale : -INFINITY;
        m = fmaxf(m, score[b][c]);
      }
    }
    m = fmaxf(m, __shfl_xor_sync(kAllLanes, m, 1));
    m = fmaxf(m, __shfl_xor_sync(kAllLanes, m, 2));
    l = 0.0f;
    const float top = m == -INFINITY ? 0.0f : m;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      const float first = exp2_fast(score[b][0] - top), second = exp2_fast(score[b][1] - top);
      l += first;
      l += second;
      weights[b] = kNarrow ? pack_half(first, second) : pack_bf16(first, second);
    }
    l += __shfl_xor_sync(kAllLanes, l, 1);
    l += __shfl_xor_sync(kAllLanes, l, 2);
  }

  // V of the lane's dims of half h at a position.
  struct alignas(8 * sizeof(KV)) Dims {
    uint32_t w[kNarrow ? 2 : 4];
  };
  // a's and b's element j side by side.
  __device__ static uint32_t pair_of(const Dims& a, const Dims& b, int j) {
    if constexpr (kNarrow) {
      const uint32_t both = __byte_perm(a.w[j / 4], b.w[j / 4], j % 4 < 2 ? 0x5140 : 0x7362);
      return widen_f8(both, j % 2);
    } else {
      return __byte_perm(a.w[j / 2], b.w[j / 2], j % 2 ? 0x7632 : 0x5410);
    }
  }

  template <bool kBounded>
  __device__ void output(const unsigned char* v, int low, int high) {
#pragma unroll
    for (int i = 0; i < 16 * kHalves; ++i) o[i / 16][i / 4 % 4][i % 4] = 0.0f;
#pragma unroll
    for (int u = 0; u < kTileTokens / 16; ++u) {
      Dims x[4][kHalves];  // positions 2 t, 2 t + 1, 8 + 2 t, 9 + 2 t of the 16
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int position = 16 * u + 2 * t + (i & 1) + (i & 2) * 4;
#pragma unroll
        for (int h = 0; h < kHalves; ++h)
          x[i][h] = *reinterpret_cast<const Dims*>(v + position * kRowBytes + first_dim(h) * static_cast<int>(sizeof(KV)));
        if (kBounded && (position < low || position >= high)) {  // weights are 0 there, but 0 * NaN is NaN
#pragma unroll
          for (int h = 0; h < kHalves; ++h) x[i][h] = Dims{};
        }
      }
#pragma unroll
      for (int h = 0; h < kHalves; ++h) {
#pragma unroll
        for (int j = 0; j < 4; ++j)
          multiply_tile<KV>(o[h][j], pair_of(x[0][h], x[1][h], j), pair_of(x[0][h], x[1][h], j + 4), pair_of(x[2][h], x[3][h], j),
                            pair_of(x[2][h], x[3][h], j + 4), weights[2 * u], weights[2 * u + 1]);
      }
    }
  }
};

}  // namespace bolide
