// How one block's results reach the others while the kernel runs: words of 64 bits that carry their own validity, so that a reader polls
// the data itself and needs no flag, no fence and no second round trip (the low-latency protocol of NCCL, "LL").
//
// A word: bits 0-31 the payload (two bf16, or one float32), bits 32-47 more of it, bits 48-63 the epoch, which counts layers. A word is
// written and read as one 64-bit access, which is single-copy atomic (PTX ISA, memory consistency model). One buffer for each edge is
// enough: between two uses of it lies an edge that all blocks read from all blocks.
#pragma once

#include "cuda/decode/parameters.h"
#include "cuda/device/convert.cuh"
#include "cuda/device/pipeline.cuh"

namespace bolide::decode {

constexpr uint32_t kAllLanes = 0xffffffffu;

struct Word {
  uint32_t low, high;
  __device__ bool is_of(uint32_t epoch) const { return high >> 16 == (epoch & 0xffff); }
};
struct WordPair {
  Word a, b;
  __device__ bool are_of(uint32_t epoch) const { return a.is_of(epoch) && b.is_of(epoch); }
};

__device__ inline Word load_word(const uint64_t* from) {
  uint64_t v;
  asm volatile("ld.relaxed.gpu.global.b64 %0, [%1];" : "=l"(v) : "l"(from) : "memory");
  return {static_cast<uint32_t>(v), static_cast<uint32_t>(v >> 32)};
}
// Two neighbours; the first at an even place.
__device__ inline WordPair load_words(const uint64_t* from) {
  uint64_t a, b;
  asm volatile("ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%2];" : "=l"(a), "=l"(b) : "l"(from) : "memory");
  return {{static_cast<uint32_t>(a), static_cast<uint32_t>(a >> 32)}, {static_cast<uint32_t>(b), static_cast<uint32_t>(b >> 32)}};
}
// Two neighbours, each written as a whole; the first at an even place.
__device__ inline void store_words(uint64_t* to, const WordPair& words) {
  asm volatile(
      "{\n .reg .b64 a, b;\n mov.b64 a, {%1, %2};\n mov.b64 b, {%3, %4};\n st.relaxed.gpu.global.v2.b64 [%0], {a, b};\n}" ::"l"(to),
      "r"(words.a.low), "r"(words.a.high), "r"(words.b.low), "r"(words.b.high)
      : "memory");
}
__device__ inline void store_word(uint64_t* to, const Word& word) {
  const uint64_t v = static_cast<uint64_t>(word.high) << 32 | word.low;
  asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(to), "l"(v) : "memory");
}
// extra: 16 bits
__device__ inline void store_word(uint64_t* to, uint32_t low, uint32_t extra, uint32_t epoch) {
  store_word(to, {low, epoch << 16 | extra});
}

__device__ inline float low_bf16(uint32_t v) { return __uint_as_float(v << 16); }
__device__ inline float high_bf16(uint32_t v) { return __uint_as_float(v & 0xffff0000u); }

// Two float32 with 16 bits of mantissa each, in 48 bits: 2^-17 is lost in a word, a 2^-9 is when the result is rounded to bf16.
__device__ inline Word word_of_floats(float first, float second, uint32_t epoch) {
  const uint32_t a = (__float_as_uint(first) + 0x80) >> 8, b = (__float_as_uint(second) + 0x80) >> 8;
  return {a | b << 24, epoch << 16 | b >> 8};
}
__device__ inline void store_floats(uint64_t* to, float first, float second, uint32_t epoch) {
  store_word(to, word_of_floats(first, second, epoch));
}
__device__ inline float2 floats_of(const Word& w) {
  return make_float2(__uint_as_float(w.low << 8), __uint_as_float((w.low >> 24) << 8 | w.high << 16));
}

// Bounds a thread's waits. One that never ends is given up; then all further ones of the thread are, so that the kernel runs to its end on
// whatever is there, and reports where the first of them was. (A trap would end it at once, but ptxas does not allot registers by warpgroup
// in a kernel of this size that has one.) The stream stands still where words do not come. So it is waited for longer than words are, and
// still is when words have been given up: else its thread would lay stages over those that the block's slower warps have not read yet.
struct Patience {
  int polls = 1 << 21;  // of words: more than half a second. 0 when words, below 0 when the stream has been given up
  uint32_t where = 0;   // of the first wait given up: layer << 8 | phase; 0: none
  // Whether to poll once more after `count` polls.
  __device__ bool holds(int count, uint32_t phase) {
    if (count < polls) return true;
    if (polls > 0) where = phase, polls = 0;
    return false;
  }
  __device__ void give_up_stream(uint32_t phase) {
    if (polls > 0) where = phase;
    polls = -1;
  }
  // At the kernel's end. Of all reports the earliest wait's stays: what others waited for behind it is lost with it.
  __device__ void report(DeviceFault* fault) const {
    if (where == 0) return;
    volatile DeviceFault* f = fault;
    if (f->code != DeviceFault::none && f->code != DeviceFault::decode_stalled) return;
    atomicMax(reinterpret_cast<unsigned*>(&fault->value), ~(where << 8 | blockIdx.x));
    __threadfence_system();
    f->code = DeviceFault::decode_stalled;
  }
};
constexpr long long kStreamCycles = 1ll << 33;  // some four seconds
__device__ inline void wait(uint64_t& barrier, uint32_t parity, Patience& patience, uint32_t phase) {
  if (phase_is_over(barrier, parity)) return;
  const long long start = clock64();
  while (!phase_is_over(barrier, parity)) {
    if (patience.polls >= 0 && clock64() - start < kStreamCycles) continue;
    patience.give_up_stream(phase);
    return;
  }
}

}  // namespace bolide::decode
