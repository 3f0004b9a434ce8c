// Sums and maxima over a warp and over a block, in an order that depends on the block's shape alone.
#pragma once

namespace bolide {

__device__ inline float warp_sum(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}
__device__ inline float warp_max(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, offset));
  return v;
}

// For blocks of a whole number of warps, at most 1024 threads. Every thread calls it and gets the result.
template <class T, class Combine>
__device__ inline T block_reduce(T v, Combine combine) {
  __shared__ T partial[32];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) v = combine(v, __shfl_xor_sync(0xffffffffu, v, offset));
  __syncthreads();  // an earlier reduction's readers are done
  if (lane == 0) partial[warp] = v;
  __syncthreads();
  T all = partial[0];
  for (int i = 1; i < warps; ++i) all = combine(all, partial[i]);
  return all;
}
__device__ inline float block_sum(float v) {
  return block_reduce(v, [](float a, float b) { return a + b; });
}
__device__ inline float block_max(float v) {
  return block_reduce(v, [](float a, float b) { return fmaxf(a, b); });
}

}  // namespace bolide
