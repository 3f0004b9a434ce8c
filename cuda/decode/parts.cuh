// The combination of attention's parts in shapes that are not whole, where any number of blocks shares a key/value head: what each of
// them has of every output, in eights ("parts") that the same blocks combine, one warp each; of several rows each its own.
//
// A part's words are three pairs of every block: four words of two outputs each, then the maximum and the sum of their head. Pairs of all
// blocks lie side by side, so that a warp's read is one piece of memory. Of several rows a block's four words lie together, a sector with
// one writer, and the maximum and the sum once for all parts of a head: many more words are written there while others are polled. So they
// do with one row of wide heads of which each is a warp's.
#pragma once

#include "cuda/decode/attention.cuh"

namespace bolide::decode {

// words: of the key/value head. By all warps of its block `rank`.
template <class S>
__device__ inline void store_parts(uint64_t* words, const AttentionShared<S, 1>& sh, int rank, uint32_t epoch) {
  for (int d = 2 * static_cast<int>(threadIdx.x); d < S::kGroupWidth; d += 2 * kThreads) {
    float scale[kWarps], a = 0.0f, b = 0.0f;
    const float2 joined = join_warps(sh, d / S::kHeadDim, scale);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float2 v = *reinterpret_cast<const float2*>(&sh.values[w][d]);
      a += v.x * scale[w], b += v.y * scale[w];
    }
    uint64_t* to = words + (d / 8 * 3 * S::kHeadBlocks + rank) * 2;
    store_floats(to + d % 8 / 4 * S::kHeadBlocks * 2 + d / 2 % 2, a, b, epoch);
    if (d % 8 == 0) {
      to += 2 * S::kHeadBlocks * 2;
      store_word(to, __float_as_uint(joined.x), 0, epoch);
      store_word(to + 1, __float_as_uint(joined.y), 0, epoch);
    }
  }
}

// What a lane has of a part: all pairs of blocks lane, lane + 32, ...
// kSources: blocks that parts are of.
template <class S, int kSources = S::kHeadBlocks>
struct Parts {
  static constexpr int kEach = (kSources + 31) / 32;
  WordPair got[kEach][3];

  __device__ static bool is_block(int block) { return kSources % 32 == 0 || block < kSources; }

  // words: of the key/value head.
  __device__ void load(const uint64_t* words, int part, int lane) {
    const uint64_t* at = words + (part * 3 * kSources + lane) * 2;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (!is_block(lane + 32 * i)) break;
#pragma unroll
      for (int pair = 0; pair < 3; ++pair) got[i][pair] = load_words(at + (pair * kSources + 32 * i) * 2);
    }
  }
  // Of several rows, and of wide heads of which each is a warp's.
  __device__ static int row_values_at(int part, int block) { return (part * kSources + block) * 4; }
  __device__ static int row_sums_at(int head, int block) { return (S::kParts * 2 + head) * kSources * 2 + block * 2; }
  // A wide head's part, of which every lane has eight values.
  __device__ static void store_wide_head(uint64_t* words, int head, int block, const float (&v)[8], float maximum, float sum, int lane,
                                         uint32_t epoch) {
    uint64_t* to = words + row_values_at(head * (S::kHeadDim / 8) + lane, block);
    store_words(to, {word_of_floats(v[0], v[1], epoch), word_of_floats(v[2], v[3], epoch)});
    store_words(to + 2, {word_of_floats(v[4], v[5], epoch), word_of_floats(v[6], v[7], epoch)});
    if (lane == 0)
      store_words(words + row_sums_at(head, block), {{__float_as_uint(maximum), epoch << 16}, {__float_as_uint(sum), epoch << 16}});
  }
  __device__ void load_of_row(const uint64_t* words, int part, int lane) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (!is_block(lane + 32 * i)) break;
      const uint64_t* values = words + row_values_at(part, lane + 32 * i);
      got[i][0] = load_words(values), got[i][1] = load_words(values + 2);
    }
    load_sums_of_row(words, part, lane);
  }
  __device__ void load_sums_of_row(const uint64_t* words, int part, int lane) {
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      if (is_block(lane + 32 * i)) got[i][2] = load_words(words + row_sums_at(part / (S::kHeadDim / 8), lane + 32 * i));
  }
  __device__ void check_sums(bool& missing, int lane, uint32_t epoch) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i) missing |= is_block(lane + 32 * i) && !got[i][2].are_of(epoch);
  }
  __device__ void check(bool& missing, int lane, uint32_t epoch) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (!is_block(lane + 32 * i)) break;
#pragma unroll
      for (int pair = 0; pair < 3; ++pair) missing |= !got[i][pair].are_of(epoch);
    }
  }
  __device__ void poll(const uint64_t* words, int part, int lane, uint32_t epoch, Patience& patience, uint32_t phase) {
    int n = 0;
    bool missing;
    if constexpr (S::kHeadOfWarp) {  // 128 blocks' words: until they have come, only those of the sums
      do {
        missing = false;
        load_sums_of_row(words, part, lane);
        check_sums(missing, lane, epoch);
        ++n;
      } while (__any_sync(kAllLanes, missing && patience.holds(n, phase)));
      n = 0;
    }
    do {
      missing = false;
      if constexpr (S::kHeadOfWarp)
        load_of_row(words, part, lane);
      else
        load(words, part, lane);
      check(missing, lane, epoch);
      ++n;
    } while (__any_sync(kAllLanes, missing && patience.holds(n, phase)));
  }

  // Output lane % 8 of the eight.
  __device__ float combine(int lane) const {
    float top = -INFINITY, sum = 0.0f, v[8] = {};
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      if (is_block(lane + 32 * i)) top = fmaxf(top, __uint_as_float(got[i][2].a.low));
    const int bits = __float_as_int(top), ordered = bits ^ (bits >> 31 & 0x7fffffff);  // as integers they are in the same order
    const int highest = __reduce_max_sync(kAllLanes, ordered);
    top = __int_as_float(highest ^ (highest >> 31 & 0x7fffffff));
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (!is_block(lane + 32 * i)) break;
      const float maximum = __uint_as_float(got[i][2].a.low), scale = maximum > -INFINITY ? power_of_2(maximum - top) : 0.0f;
      sum += __uint_as_float(got[i][2].b.low) * scale;
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        const float2 low = floats_of(got[i][pair].a), high = floats_of(got[i][pair].b);
        v[4 * pair] += low.x * scale, v[4 * pair + 1] += low.y * scale;
        v[4 * pair + 2] += high.x * scale, v[4 * pair + 3] += high.y * scale;
      }
    }
    // Half of the values go to half of the lanes, and so on: value i ends on the lanes with bits 4 to 2 equal to i.
#pragma unroll
    for (int step = 0; step < 3; ++step) {
      const int n = 4 >> step, offset = 16 >> step;
      const bool upper = lane & offset;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (i >= n) break;
        const float keep = upper ? v[n + i] : v[i], send = upper ? v[i] : v[n + i];
        v[i] = keep + __shfl_xor_sync(kAllLanes, send, offset);
      }
    }
    v[0] += __shfl_xor_sync(kAllLanes, v[0], 2);
    v[0] += __shfl_xor_sync(kAllLanes, v[0], 1);
#pragma unroll
    for (int offset = 16; offset >= 1; offset /= 2) sum += __shfl_xor_sync(kAllLanes, sum, offset);
    return __shfl_sync(kAllLanes, __fdividef(v[0], sum), lane % 8 * 4);
  }
};

}  // namespace bolide::decode
