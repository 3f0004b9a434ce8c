// c = A W^T for a tile of at most 6 token rows: see product_tile.h for the formula, layouts and order of summation.
// A step of the inner loop takes one vector of columns of kRows weight rows and of all token rows: kRows + tokens loads for
// kRows * tokens fused multiply-adds, with all accumulators in registers. With one token row the loop waits for memory; with six it
// runs at 90 % of the FMA rate (215 of 240 GF/s a core on Zen 5 with AVX-512, 118 of 120 with AVX2; bf16 weights in L2, 1024 columns).
#include "cpu/product_tile.h"

#include <algorithm>

#include "cpu/simd_targets.h"

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/product_tile.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After highway.h, which the per-target toggle needs.
#include "cpu/product_rows-inl.h"
#include "cpu/product_stream-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace bolide {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Rows a full tile holds in registers: 4 x 6 accumulators where there are 32 vector registers, 2 x 6 where there are 16.
#if HWY_TARGET == HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr int kManyTokensRows = 4;
#else
constexpr int kManyTokensRows = 2;
#endif
constexpr int kFewTokens = kManyTokensRows == 4 ? kTileTokens : 2;  // up to here 4 rows fit

// Rows that advance side by side. Weights that come from memory are read the faster the fewer streams there are, so few token rows take
// their weight rows one after the other (40 against 34 GB/s a core on Zen 5), as far as the latency of multiply-adds allows.
template <int kTokens, bool kPrefetch>
constexpr int rows_side_by_side() {
  constexpr int kParallel = kLanes * kTokens;  // products of a step that do not wait for each other, with one row
  constexpr int kMost = kTokens <= kFewTokens ? 4 : kManyTokensRows;
  return kPrefetch && kParallel >= 8 && kTokens <= 3 ? 2 : kMost;
}

// Rows [row, row + kRows) and columns [k, k + columns) of the tile; rows past the end repeat the last one and are dropped.
template <class W, int kRows, int kTokens, bool kPrefetch>
HWY_NOINLINE void tile_step(const ProductTile& tile, int row, int64_t k, int64_t columns) {
  constexpr int kSums = (kRows * kTokens + 3) / 4 * 4;
  const char* w[kRows];
  for (int r = 0; r < kRows; ++r) {
    const int64_t index = std::min(row + r, tile.rows - 1);
    w[r] = static_cast<const char*>(tile.w) + (index * tile.columns + k) * static_cast<int64_t>(sizeof(W));
  }
  // Prefetching goes line by line, `prefetch` bytes past the last of these rows.
  const int64_t row_bytes = tile.columns * static_cast<int64_t>(sizeof(W));
  const Ahead ahead =
      ahead_from(tile, (row + kRows - 1) * row_bytes + k * kRows * static_cast<int64_t>(sizeof(W)) + tile.prefetch, row_bytes);
  V sums[kSums];
#pragma GCC unroll 3
  for (int i = kRows * kTokens; i < kSums; ++i) sums[i] = hn::Zero(D());
  dot_rows<W, kRows, kTokens, kPrefetch>(w, tile.a + k, tile.lda, columns, ahead, sums);
  HWY_ALIGN float folded[kSums];
#pragma GCC unroll 6
  for (int i = 0; i < kSums; i += 4) fold4(D(), sums[i], sums[i + 1], sums[i + 2], sums[i + 3], folded + i);
  for (int t = 0; t < kTokens; ++t) {
    float* c = tile.c + t * tile.ldc + row;
    for (int r = 0; r < kRows; ++r) c[r] = k == 0 ? folded[r * kTokens + t] : c[r] + folded[r * kTokens + t];
  }
}

template <class W, int kTokens, bool kPrefetch>
HWY_INLINE void tile_of(const ProductTile& tile) {
  constexpr int kRows = rows_side_by_side<kTokens, kPrefetch>();
  const auto step = tile_step<W, kRows, kTokens, kPrefetch>;
  if (kPrefetch || tile.columns <= kColumnBlock) {  // the weights come from memory: row after row
    for (int row = 0; row < tile.rows; row += kRows) {
      for (int64_t k = 0; k < tile.columns; k += kColumnBlock) step(tile, row, k, std::min<int64_t>(kColumnBlock, tile.columns - k));
    }
  } else {  // the weights come from L2: the token rows' block stays in L1
    for (int64_t k = 0; k < tile.columns; k += kColumnBlock) {
      for (int row = 0; row < tile.rows; row += kRows) step(tile, row, k, std::min<int64_t>(kColumnBlock, tile.columns - k));
    }
  }
}

template <class W, bool kPrefetch>
void tile_by_tokens(const ProductTile& tile) {
  switch (tile.tokens) {
    case 1:
      if constexpr (kPrefetch && kLanes >= 8) {
        // With eight lanes a row is a chain of twice as many multiply-adds, too long for one row after the other.
        if (kLanes >= 16 || tile.four_streams) return stream_tile_into<W>(tile);
        return tile_of<W, 1, true>(tile);
      }
      return tile_of<W, 1, false>(tile);
    case 2:
      return tile_of<W, 2, kPrefetch>(tile);
    case 3:
      return tile_of<W, 3, kPrefetch>(tile);
    case 4:
      return tile_of<W, 4, kPrefetch>(tile);
    case 5:
      return tile_of<W, 5, kPrefetch>(tile);
    default:
      return tile_of<W, 6, kPrefetch>(tile);
  }
}

template <class W>
void tile_by_prefetch(const ProductTile& tile) {
  tile.prefetch > 0 ? tile_by_tokens<W, true>(tile) : tile_by_tokens<W, false>(tile);
}

void product_tile_simd(const ProductTile& tile) {
  switch (tile.dtype) {
    case DType::f32:
      return tile_by_prefetch<float>(tile);
    case DType::f16:
      return tile_by_prefetch<hwy::float16_t>(tile);
    case DType::bf16:
      return tile_by_prefetch<hwy::bfloat16_t>(tile);
    case DType::f8:  // no dtype of weights
      return;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace bolide
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bolide {
HWY_EXPORT(product_tile_simd);
void product_tile(const ProductTile& tile) { HWY_DYNAMIC_DISPATCH(product_tile_simd)(tile); }
}  // namespace bolide
#endif
