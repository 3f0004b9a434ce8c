// From logits to a token, for the kernel's last phase: the greatest of the logits, or with a temperature of those with noise added
// (Gumbel-max; sample.cu draws the same from the same seed).
#pragma once

#include "core/philox.h"
#include "cuda/decode/shared.cuh"

namespace bolide::decode {

enum BestNote : uint32_t {
  infinity_met = 1,
  nan_met = 2,
  wait_given_up = 4,
  next_is_there = 8,  // block 0's alone: the kernel may go on
};

struct BestLogit {
  float value = -INFINITY;
  int32_t id = INT_MAX;
  uint32_t notes = 0;  // of BestNote

  __device__ void keep(float v, int32_t i) {
    if (v > value || (v == value && i < id)) value = v, id = i;
  }
  __device__ void add(const RowSampling& sampling, float v, int32_t i) {
    notes |= v != v ? nan_met : v > 3.4e38f ? infinity_met : 0;
    if (!sampling.plain || i >= sampling.allowed) return;
    if (sampling.temperature > 0.0f) {
      const Philox4 random = sampling_block(sampling.seed, sampling.sequence, sampling.position, static_cast<uint32_t>(i));
      const uint32_t bits = i & 2 ? (i & 1 ? random.v[3] : random.v[2]) : (i & 1 ? random.v[1] : random.v[0]);
      v = divide(v, sampling.temperature) - logf(-logf(uniform_open(bits)));
    }
    keep(v, i);
  }
  __device__ void join_warp() {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) keep(__shfl_xor_sync(kAllLanes, value, offset), __shfl_xor_sync(kAllLanes, id, offset));
    notes = __reduce_or_sync(kAllLanes, notes);
  }
  // words: [kBlocks][2]
  __device__ void publish(uint64_t* words, int block, uint32_t epoch) const {
    store_word(words + 2 * block, __float_as_uint(value), notes, epoch);
    store_word(words + 2 * block + 1, static_cast<uint32_t>(id), 0, epoch);
  }
  __device__ bool is_token() const { return (notes & ~next_is_there) == 0 && value > -INFINITY && value < INFINITY; }
  __device__ void store(SampledToken& out, int lane) const {
    for (int i = lane; i < static_cast<int>(sizeof(SampledToken) / 4); i += 32) reinterpret_cast<int32_t*>(&out)[i] = i == 0 ? id : 0;
  }
  __device__ void report(const Parameters& p, SampledToken& out, int row) const {
    out.id = -1;
    report_fault(p.fault, notes & nan_met ? DeviceFault::nan_logits : DeviceFault::infinite_logits, row, 0);
  }
};

// The best of all blocks' published ones, by a warp.
__device__ inline BestLogit best_of_blocks(const uint64_t* words, int lane, uint32_t epoch, Patience& patience, uint32_t phase) {
  BestLogit best;
#pragma unroll
  for (int i = 0; i < kBlocks / 32; ++i) {
    WordPair w;
    int n = 0;
    do w = load_words(words + 2 * (lane + 32 * i)), ++n;
    while (__any_sync(kAllLanes, !w.are_of(epoch) && patience.holds(n, phase)));
    best.keep(__uint_as_float(w.a.low), static_cast<int32_t>(w.b.low));
    best.notes |= w.a.high & 0xffff;
  }
  best.join_warp();
  return best;
}

}  // namespace bolide::decode
