// A decode block's shared memory, and small helpers of the kernel.
#pragma once

#include "cuda/decode/attention.cuh"
#include "cuda/decode/steps.cuh"
#include "cuda/device/activate.cuh"

namespace bolide::decode {

// kRows: 1, or for that many at most kFewerRows or kMaxRows.
template <class S, int kRows>
struct SharedBase : Steps<S, kRows> {
  Layer layers[kMaxLayers];
  AttentionShared<S, kRows> attention;
  // The warps' shares of a product's rows, for each row of the step: of this product and the one before.
  alignas(16) float sums[2][kWarps][S::most_sums(kRows) * kRows];
  alignas(16) float squares[2][kRows][kWarps];
  RowSampling row_sampling[kRows == 1 ? 1 : kWarps];  // several rows: how the warp's row's token is drawn
  long long clocks[kBlockClocks];
};
constexpr size_t kSharedLimit = 227 * 1024;
template <class S, int kRows>
constexpr int stages_that_fit() {
  const int n = static_cast<int>((kSharedLimit - sizeof(SharedBase<S, kRows>) - 256) / (kStageBytes + 2 * sizeof(uint64_t)));
  return n < kMostStages ? n : kMostStages;
}
template <class S, int kRows>
struct Shared {
  static constexpr int kStages = stages_that_fit<S, kRows>();
  alignas(128) char ring[kStages * kStageBytes];
  uint64_t full[kStages], empty[kStages];
  SharedBase<S, kRows> base;
};

// Divisions without the compiler's, whose way out for extreme operands is a call. Rounded to nearest for operands far from overflow and
// underflow: a quotient is exact to the last bit when its remainder is added (Markstein, IBM J. Res. Dev. 34, 1990).
__device__ inline float divide(float a, float b) {
  const float guess = __fdividef(1.0f, b), inverse = fmaf(guess, fmaf(-b, guess, 1.0f), guess), q = a * inverse;
  return fmaf(fmaf(-b, q, a), inverse, q);
}
__device__ inline float gated(GatedActivation activation, float v) {
  return activation == GatedActivation::silu ? __fdividef(v, 1.0f + __expf(-v)) : activate_gelu(activation, v);
}

__device__ inline long long global_nanoseconds() {
  long long t;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
  return t;
}

}  // namespace bolide::decode
