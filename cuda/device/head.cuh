// What happens to a head of q, k or v between the product and its place: bias, norm, rotation, rounding. A warp makes one head of one row;
// lane l holds the pairs (i, i + Dh / 2) with i = l, l + 32, ..., which are rotated together.
#pragma once

#include "cuda/context.h"
#include "cuda/device/convert.cuh"
#include "cuda/device/reduce.cuh"

namespace bolide {

constexpr int kMaxPairs = 4;  // pairs a lane holds: Dh <= 256

// kPairs: pairs a lane holds, at least Dh / 64.
template <int kPairs = kMaxPairs>
struct HeadPairs {
  float low[kPairs], high[kPairs];

  // Column `head` of the product's heads, with bias, norm and rotation as its kind asks for. Called by a whole warp. Everything is asked
  // for at once: one latency, not one after another.
  __device__ void make(const QkvProduct& p, int row, int head, int lane) {
    const int half = p.head_dim / 2, column = head * p.head_dim;
    const bool is_q = head < p.heads, is_v = head >= p.heads + p.kv_heads;
    const float* from = p.product + row * p.stride + column;
    const float* norm = is_q ? p.q_norm : is_v ? nullptr : p.k_norm;
    const float2* rope = reinterpret_cast<const float2*>(p.rope) + static_cast<int64_t>(row) * half;
    const float scale = p.row_scale ? p.row_scale[row] : 1.0f;
    float2 weight[kPairs], turn[kPairs], bias[kPairs];
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      const int i = lane + 32 * j;
      low[j] = high[j] = 0.0f;
      weight[j] = turn[j] = bias[j] = make_float2(0.0f, 0.0f);
      if (i >= half) continue;
      low[j] = from[i], high[j] = from[i + half];
      if (norm) weight[j] = make_float2(norm[i], norm[i + half]);
      if (p.bias) bias[j] = make_float2(p.bias[column + i], p.bias[column + i + half]);
      if (!is_v) turn[j] = rope[i];
    }
    float squares = 0.0f;
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      low[j] = low[j] * scale + bias[j].x;
      high[j] = high[j] * scale + bias[j].y;
      squares += low[j] * low[j] + high[j] * high[j];
    }
    if (norm) {
      const float rstd = rsqrtf(warp_sum(squares) / static_cast<float>(2 * half) + p.eps);
#pragma unroll
      for (int j = 0; j < kPairs; ++j) low[j] *= rstd * weight[j].x, high[j] *= rstd * weight[j].y;
    }
    if (is_v) return;
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      const float cosine = turn[j].x, sine = turn[j].y, a = low[j], b = high[j];
      low[j] = a * cosine - b * sine;
      high[j] = b * cosine + a * sine;
    }
  }

  template <class Out>
  __device__ void store(Out* to, int half, int lane) const {
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      const int i = lane + 32 * j;
      if (i >= half) break;
      to[i] = from_float<Out>(low[j]);
      to[i + half] = from_float<Out>(high[j]);
    }
  }
};

}  // namespace bolide
