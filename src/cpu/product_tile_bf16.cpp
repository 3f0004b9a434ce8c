// The tile of product_tile.h by AVX-512 BF16: vdpbf16ps multiplies pairs of bf16 and adds them to a float32 lane, twice the rate of
// float32 multiply-adds on Zen 5 (480 against 240 GF/s a core) and no widening of the weights. A source of its own with a target
// attribute, because Highway has no target for it in the versions that distributions carry.
#include <algorithm>
#include <cstring>

#include "cpu/product_tile.h"

#if defined(__x86_64__) && defined(__GNUC__)
#if !defined(__clang__)  // GCC 12 warns about its own headers' undefined vectors (its bug 105593)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#define BOLIDE_BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

namespace bolide {
namespace {

constexpr int64_t kPairLanes = 32;                // bf16 elements of a vector
constexpr int64_t kPairBlock = 2 * kColumnBlock;  // as many bytes of a row as in float32

template <int kRows, int kTokens>
BOLIDE_BF16 inline __attribute__((always_inline)) void multiply_add(__m512 (&acc)[kRows * kTokens], const void* const* w,
                                                                    const void* const* a) {
  __m512bh weights[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) weights[r] = (__m512bh)_mm512_loadu_si512(w[r]);
#pragma GCC unroll 6
  for (int t = 0; t < kTokens; ++t) {
    const __m512bh x = (__m512bh)_mm512_loadu_si512(a[t]);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) acc[t * kRows + r] = _mm512_dpbf16_ps(acc[t * kRows + r], weights[r], x);
  }
}

// Sums of the lanes of four vectors.
BOLIDE_BF16 inline __attribute__((always_inline)) __m128 fold4(const __m512* v) {
  const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
  const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
  const __m512d a2 = _mm512_castps_pd(a), b2 = _mm512_castps_pd(b);
  const __m512 sum = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a2, b2)), _mm512_castpd_ps(_mm512_unpackhi_pd(a2, b2)));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps(sum, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// Rows [row, row + 4) and columns [k, k + columns) of the tile; rows past the end repeat the last one and are dropped.
template <int kTokens, bool kPrefetch>
BOLIDE_BF16 void tile_step(const ProductTileBf16& tile, int row, int64_t k, int64_t columns) {
  constexpr int kRows = 4;
  const uint16_t* w[kRows];
  for (int r = 0; r < kRows; ++r) w[r] = static_cast<const uint16_t*>(tile.w) + std::min(row + r, tile.rows - 1) * tile.columns + k;
  const uint16_t* a = tile.a + k;
  __m512 acc[kRows * kTokens];
#pragma GCC unroll 24
  for (int i = 0; i < kRows * kTokens; ++i) acc[i] = _mm512_setzero_ps();
  const int64_t whole = columns - columns % kPairLanes;
  for (int64_t i = 0; i < whole; i += kPairLanes) {
    const void* wi[kRows];
    const void* ai[kTokens];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      wi[r] = w[r] + i;
      if constexpr (kPrefetch) {
        const auto* ahead = reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(wi[r]) + static_cast<uintptr_t>(tile.prefetch));
        if (tile.prefetch_l2) {
          __builtin_prefetch(ahead, 0, 2);
        } else {
          __builtin_prefetch(ahead);
        }
      }
    }
#pragma GCC unroll 6
    for (int t = 0; t < kTokens; ++t) ai[t] = a + t * tile.lda + i;
    multiply_add<kRows, kTokens>(acc, wi, ai);
  }
  if (const int64_t tail = columns - whole; tail > 0) {
    uint16_t rest_w[kRows][kPairLanes] = {};
    uint16_t rest_a[kTokens][kPairLanes] = {};
    const void* wi[kRows];
    const void* ai[kTokens];
    for (int r = 0; r < kRows; ++r) {
      std::memcpy(rest_w[r], w[r] + whole, static_cast<size_t>(tail) * 2);
      wi[r] = rest_w[r];
    }
    for (int t = 0; t < kTokens; ++t) {
      std::memcpy(rest_a[t], a + t * tile.lda + whole, static_cast<size_t>(tail) * 2);
      ai[t] = rest_a[t];
    }
    multiply_add<kRows, kTokens>(acc, wi, ai);
  }
#pragma GCC unroll 6
  for (int t = 0; t < kTokens; ++t) {
    float* c = tile.c + t * tile.ldc + row;
    const __m128 sums = fold4(acc + t * kRows);
    _mm_storeu_ps(c, k == 0 ? sums : _mm_add_ps(_mm_loadu_ps(c), sums));
  }
}

template <int kTokens, bool kPrefetch>
BOLIDE_BF16 void tile_by_blocks(const ProductTileBf16& tile) {
  if (kPrefetch || tile.columns <= kPairBlock) {  // the weights come from memory: row after row
    for (int row = 0; row < tile.rows; row += 4) {
      for (int64_t k = 0; k < tile.columns; k += kPairBlock)
        tile_step<kTokens, kPrefetch>(tile, row, k, std::min(kPairBlock, tile.columns - k));
    }
  } else {  // the weights come from L2: the token rows' block stays in L1
    for (int64_t k = 0; k < tile.columns; k += kPairBlock) {
      for (int row = 0; row < tile.rows; row += 4) tile_step<kTokens, kPrefetch>(tile, row, k, std::min(kPairBlock, tile.columns - k));
    }
  }
}

template <int kTokens>
BOLIDE_BF16 void tile_of(const ProductTileBf16& tile) {
  tile.prefetch > 0 ? tile_by_blocks<kTokens, true>(tile) : tile_by_blocks<kTokens, false>(tile);
}

}  // namespace

bool has_bf16_products() {
  static const bool found = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bf16");
  return found;
}

void product_tile_bf16(const ProductTileBf16& tile) {
  switch (tile.tokens) {
    case 1:
      return tile_of<1>(tile);
    case 2:
      return tile_of<2>(tile);
    case 3:
      return tile_of<3>(tile);
    case 4:
      return tile_of<4>(tile);
    case 5:
      return tile_of<5>(tile);
    default:
      return tile_of<6>(tile);
  }
}

}  // namespace bolide

#else

#include "core/error.h"

namespace bolide {
bool has_bf16_products() { return false; }
void product_tile_bf16(const ProductTileBf16&) { BOLIDE_CHECK(has_bf16_products()); }
}  // namespace bolide

#endif
