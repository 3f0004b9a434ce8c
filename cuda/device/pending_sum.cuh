// What a product of several parts still owes the residual stream (cuda/context.h, PendingSum), added wherever the stream is read next.
// There is one order of additions, so that a step has the same bits whichever kernel does it.
#pragma once

#include "cuda/context.h"
#include "cuda/device/convert.cuh"

namespace bolide {

// x, elements i .. i + 3 of a row, plus what is owed to them; stored back.
__device__ inline void settle(Pack<float, 4>& x, const PendingSum& owed, int row, int i) {
  using Vector = Pack<float, 4>;
  const float* from = owed.parts + row * owed.stride + i;
  Vector sum = *reinterpret_cast<const Vector*>(from);
  for (int part = 1; part < owed.count; ++part) {
    const Vector v = *reinterpret_cast<const Vector*>(from + part * owed.part_stride);
#pragma unroll
    for (int e = 0; e < 4; ++e) sum.v[e] += v.v[e];
  }
#pragma unroll
  for (int e = 0; e < 4; ++e) x.v[e] += owed.bias ? sum.v[e] + owed.bias[i + e] : sum.v[e];
  *reinterpret_cast<Vector*>(owed.x + row * owed.columns + i) = x;
}

}  // namespace bolide
