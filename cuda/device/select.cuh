// Selection without sorting: the value at which an accumulated weight, taken from the largest value down, first reaches a target.
// With weight 1 that is the k-th largest value, with probabilities the edge of the nucleus. Radix descent over the bits of the value,
// eight at a time: four passes over the row, one histogram of integer weights each. Every warp adds to a histogram of its own, lanes
// of one digit together, so that nothing is atomic; integer sums make the result independent of any order.
#pragma once

#include <cstdint>

namespace bolide {

// Order-preserving bits of a float; -0 counts as +0.
__device__ inline uint32_t ordered_bits(float v) {
  const uint32_t bits = __float_as_uint(v + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

constexpr int kSelectThreads = 1024;  // of the block that selects

struct SelectShared {
  unsigned long long histogram[kSelectThreads / 32][256];
  unsigned long long above;  // weight of all values greater than those with the prefix found so far
  uint32_t prefix;
};

struct Selected {
  uint32_t bits;             // ordered_bits of the value
  unsigned long long above;  // weight of all greater values, < target
};

// The largest value v with weight(values >= v) >= target. Called by the whole block; 1 <= target <= the total weight.
// value(i) and weight(i), below 2^52, are asked for 0 <= i < count; entries of weight 0 do not matter.
template <class Value, class Weight>
__device__ Selected select_from_top(int count, unsigned long long target, Value value, Weight weight, SelectShared& s) {
  constexpr unsigned all = 0xffffffffu;
  constexpr int part_bits = 26;  // of a weight, so that 32 of them add up within 32 bits
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  if (threadIdx.x == 0) s.above = 0, s.prefix = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = lane; i < 256; i += 32) s.histogram[warp][i] = 0;
    __syncthreads();
    const uint32_t prefix = s.prefix, mask = shift == 24 ? 0u : ~0u << (shift + 8);
    for (int base = warp * 32; base < count; base += kSelectThreads) {
      const int i = base + lane;
      const uint32_t bits = i < count ? ordered_bits(value(i)) : 0;
      const unsigned long long w = i < count && (bits & mask) == prefix ? weight(i) : 0;
      const unsigned present = __ballot_sync(all, w > 0);
      if (w == 0) continue;
      const uint32_t digit = bits >> shift & 255;
      const unsigned peers = __match_any_sync(present, digit);
      const unsigned low = __reduce_add_sync(peers, static_cast<unsigned>(w & ((1u << part_bits) - 1)));
      const unsigned high = __reduce_add_sync(peers, static_cast<unsigned>(w >> part_bits));
      if (lane == __ffs(peers) - 1) s.histogram[warp][digit] += low + (static_cast<unsigned long long>(high) << part_bits);
    }
    __syncthreads();
    if (threadIdx.x < 256) {
      unsigned long long sum = 0;
      for (int w = 0; w < kSelectThreads / 32; ++w) sum += s.histogram[w][threadIdx.x];
      s.histogram[0][threadIdx.x] = sum;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      unsigned long long above = s.above;
      int digit = 255;
      while (digit > 0 && above + s.histogram[0][digit] < target) above += s.histogram[0][digit--];
      s.above = above;
      s.prefix = prefix | static_cast<uint32_t>(digit) << shift;
    }
    __syncthreads();
  }
  const Selected result{s.prefix, s.above};
  __syncthreads();
  return result;
}

// The greatest id of the `wanted` lowest ids among those with holds(id); wanted >= 1 and at most their number. Ids are below 2^24.
template <class Holds>
__device__ int lowest_ids_cutoff(int count, unsigned long long wanted, Holds holds, SelectShared& s) {
  const Selected found = select_from_top(
      count, wanted, [](int i) { return -static_cast<float>(i); }, [&](int i) { return holds(i) ? 1ull : 0ull; }, s);
  const uint32_t bits = found.bits & 0x80000000u ? found.bits & 0x7fffffffu : ~found.bits;
  return static_cast<int>(-__uint_as_float(bits));
}

}  // namespace bolide
