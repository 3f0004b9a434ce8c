// What a product of several parts still owes the residual stream (cuda/context.h, PendingSum), added wherever the stream is read next.
// There is one order of additions, so that a step has the same bits whichever kernel does it.
#pragma once

#include "cuda/context.h"
#include "cuda/device/convert.cuh"

namespace bolide {

// x, elements i .. i + 3 of a row, plus what is owed to them; stored back.
__device__ inline void settle(Pack<float, 4>& x, const PendingSum& owed, int row, int i) {
  using Vector = Pack<float, 4>;
  constexpr int kAtOnce = 4;  // parts that are asked for together: one behind the other, each takes a round trip to L2
  const float* from = owed.parts + row * owed.stride + i;
  Vector sum;
  for (int first = 0; first < owed.count; first += kAtOnce) {
    Vector part[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (first + k < owed.count) part[k] = *reinterpret_cast<const Vector*>(from + (first + k) * owed.part_stride);
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (first + k >= owed.count) continue;
#pragma unroll
      for (int e = 0; e < 4; ++e) sum.v[e] = first + k == 0 ? part[k].v[e] : sum.v[e] + part[k].v[e];
    }
  }
#pragma unroll
  for (int e = 0; e < 4; ++e) x.v[e] += owed.bias ? sum.v[e] + owed.bias[i + e] : sum.v[e];
  *reinterpret_cast<Vector*>(owed.x + row * owed.columns + i) = x;
}

}  // namespace bolide
