// What all tiles of product_tile.cpp are made of, per SIMD target (Highway's per-target include pattern): loads that widen, sums of lanes,
// prefetches, and the products of a few rows and tokens whose accumulators stay in registers.
#if defined(BOLIDE_CPU_PRODUCT_ROWS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BOLIDE_CPU_PRODUCT_ROWS_INL_H
#undef BOLIDE_CPU_PRODUCT_ROWS_INL_H
#else
#define BOLIDE_CPU_PRODUCT_ROWS_INL_H
#endif

#include <algorithm>
#include <cstring>
#include <limits>

#include "cpu/product_tile.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace bolide {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));

// A vector of weights from any address, widened exactly.
template <class W>
HWY_INLINE V load_weights(D d, const char* p) {
#if HWY_TARGET == HWY_SCALAR
  W w;
  std::memcpy(&w, p, sizeof w);
  if constexpr (sizeof(W) == 4) {
    return hn::Set(d, w);
  } else {
    return hn::PromoteTo(d, hn::Set(hn::Rebind<W, D>(), w));
  }
#else
  if constexpr (sizeof(W) == 4) {
    return hn::LoadU(d, reinterpret_cast<const float*>(p));
  } else {
    const hn::Rebind<W, D> dw;
    return hn::PromoteTo(d, hn::LoadU(dw, reinterpret_cast<const W*>(p)));
  }
#endif
}

// Keeps a vector in a register: GCC would repeat the load in every multiply-add that uses it, which costs a third of the AVX2 rate.
HWY_INLINE V in_register(V v) {
#if (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3) && HWY_COMPILER_GCC_ACTUAL
  asm("" : "+v"(v.raw));
#endif
  return v;
}

// out[0..3] = sums of the lanes of four vectors. Every vector's lanes are added in the same order, whatever its place among the four.
HWY_INLINE void fold4([[maybe_unused]] D d, V v0, V v1, V v2, V v3, float* HWY_RESTRICT out) {
#if HWY_TARGET == HWY_SCALAR
  const V all[4] = {v0, v1, v2, v3};
  for (int i = 0; i < 4; ++i) out[i] = hn::GetLane(all[i]);
#else
  const hn::Repartition<uint64_t, D> d64;
  const V a = hn::Add(hn::InterleaveLower(d, v0, v1), hn::InterleaveUpper(d, v0, v1));
  const V b = hn::Add(hn::InterleaveLower(d, v2, v3), hn::InterleaveUpper(d, v2, v3));
  const auto a64 = hn::BitCast(d64, a), b64 = hn::BitCast(d64, b);
  const V sum = hn::Add(hn::BitCast(d, hn::InterleaveLower(d64, a64, b64)), hn::BitCast(d, hn::InterleaveUpper(d64, a64, b64)));
  if constexpr (kLanes == 16) {
    const hn::Half<D> d8;
    const hn::Half<decltype(d8)> d4;
    const auto half = hn::Add(hn::LowerHalf(d8, sum), hn::UpperHalf(d8, sum));
    hn::StoreU(hn::Add(hn::LowerHalf(d4, half), hn::UpperHalf(d4, half)), d4, out);
  } else if constexpr (kLanes == 8) {
    const hn::Half<D> d4;
    hn::StoreU(hn::Add(hn::LowerHalf(d4, sum), hn::UpperHalf(d4, sum)), d4, out);
  } else {
    hn::StoreU(sum, d, out);
  }
#endif
}

// One vector of columns, from column k on.
template <class W, int kRows, int kTokens>
HWY_INLINE void multiply_add(const char* const* HWY_RESTRICT w, const float* HWY_RESTRICT a, int64_t lda, int64_t k, V* HWY_RESTRICT acc) {
  const D d;
  V weights[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) weights[r] = in_register(load_weights<W>(d, w[r] + k * static_cast<int64_t>(sizeof(W))));
#pragma GCC unroll 6
  for (int t = 0; t < kTokens; ++t) {
    const V x = in_register(hn::LoadU(d, a + t * lda + k));
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) acc[r * kTokens + t] = hn::MulAdd(weights[r], x, acc[r * kTokens + t]);
  }
}

constexpr int64_t kLine = 64;  // bytes

template <PrefetchInto kInto>
HWY_INLINE void prefetch_line(uintptr_t at) {
  constexpr int kLocality = kInto == PrefetchInto::l1 ? 3 : kInto == PrefetchInto::l2 ? 2 : 0;
  __builtin_prefetch(reinterpret_cast<const void*>(at), 0, kLocality);
}

// Where prefetching stands: line after line from `at`, and from `then` on after `lines` of them.
struct Ahead {
  PrefetchInto into;
  uintptr_t at, then;
  int64_t lines;

  // One line for each that is multiplied, whichever that is.
  HWY_INLINE void step(int /*row*/, int64_t /*bytes*/) {
    switch (into) {
      case PrefetchInto::l1:
        prefetch_line<PrefetchInto::l1>(at);
        break;
      case PrefetchInto::l1_once:
        prefetch_line<PrefetchInto::l1_once>(at);
        break;
      case PrefetchInto::l2:
        prefetch_line<PrefetchInto::l2>(at);
        break;
    }
    at += kLine;
    if (HWY_UNLIKELY(--lines == 0)) at = then;
  }
};

// Prefetching of rows that are streams of their own.
struct AheadInRows {
  const char* const* w;
  uintptr_t distance;

  HWY_INLINE void step(int row, int64_t bytes) { prefetch_line<PrefetchInto::l1>(reinterpret_cast<uintptr_t>(w[row] + bytes) + distance); }
};

// From byte `from` of the tile's weights and what follows them: tile.next, or for want of that the weights from their beginning.
HWY_INLINE Ahead ahead_from(const ProductTile& tile, int64_t from, int64_t row_bytes) {
  const int64_t bytes = tile.rows * row_bytes;
  const auto w = reinterpret_cast<uintptr_t>(tile.w), then = tile.next ? reinterpret_cast<uintptr_t>(tile.next) : w;
  if (from >= bytes) return {tile.into, then + static_cast<uintptr_t>(from - bytes), 0, std::numeric_limits<int64_t>::max()};
  return {tile.into, w + static_cast<uintptr_t>(from), then, (bytes - from + kLine - 1) / kLine};
}

// sums[r * kTokens + t] = lanes of the products of `columns` columns, from pointers to the first of them. A tail shorter than a vector is
// copied into zeroes, because nothing past a row's end may be read (the end of a mapping) or multiplied (it may be NaN).
template <class W, int kRows, int kTokens, bool kPrefetch, class A>
HWY_INLINE void dot_rows(const char* const* HWY_RESTRICT w, const float* HWY_RESTRICT a, int64_t lda, int64_t columns, A ahead,
                         V* HWY_RESTRICT sums) {
  const D d;
  V acc[kRows * kTokens];
#pragma GCC unroll 24
  for (int i = 0; i < kRows * kTokens; ++i) acc[i] = hn::Zero(d);
  const int64_t whole = columns - columns % kLanes;
  int64_t k = 0;
  if constexpr (kPrefetch) {
    constexpr int kSteps = std::max<int>(1, static_cast<int>(kLine) / (kLanes * static_cast<int>(sizeof(W))));
    for (; k + kSteps * kLanes <= whole; k += kSteps * kLanes) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) ahead.step(r, k * static_cast<int64_t>(sizeof(W)));
#pragma GCC unroll 4
      for (int step = 0; step < kSteps; ++step) multiply_add<W, kRows, kTokens>(w, a, lda, k + step * kLanes, acc);
    }
  }
  for (; k < whole; k += kLanes) multiply_add<W, kRows, kTokens>(w, a, lda, k, acc);
  if (const int64_t tail = columns - whole; HWY_UNLIKELY(tail > 0)) {
    W rest_w[kLanes];
    float rest_a[kLanes] = {};
    V weights[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      std::memset(static_cast<void*>(rest_w), 0, sizeof rest_w);
      std::memcpy(static_cast<void*>(rest_w), w[r] + whole * static_cast<int64_t>(sizeof(W)), static_cast<size_t>(tail) * sizeof(W));
      weights[r] = load_weights<W>(d, reinterpret_cast<const char*>(rest_w));
    }
#pragma GCC unroll 6
    for (int t = 0; t < kTokens; ++t) {
      std::memcpy(rest_a, a + t * lda + whole, static_cast<size_t>(tail) * sizeof(float));
      const V x = hn::LoadU(d, rest_a);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) acc[r * kTokens + t] = hn::MulAdd(weights[r], x, acc[r * kTokens + t]);
    }
  }
#pragma GCC unroll 24
  for (int i = 0; i < kRows * kTokens; ++i) sums[i] = acc[i];
}

}  // namespace HWY_NAMESPACE
}  // namespace bolide
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
