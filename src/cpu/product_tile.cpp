// c = A W^T for a tile of at most 6 token rows: see product_tile.h for the formula, layouts and order of summation.
// A step of the inner loop takes one vector of columns of kRows weight rows and of all token rows: kRows + tokens loads for
// kRows * tokens fused multiply-adds, with all accumulators in registers. With one token row the loop waits for memory; with six it
// runs at 90 % of the FMA rate (215 of 240 GF/s a core on Zen 5 with AVX-512, 118 of 120 with AVX2; bf16 weights in L2, 1024 columns).
#include "cpu/product_tile.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "cpu/simd_targets.h"

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/product_tile.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace bolide {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// Rows a full tile holds in registers: 4 x 6 accumulators where there are 32 vector registers, 2 x 6 where there are 16.
#if HWY_TARGET == HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr int kManyTokensRows = 4;
#else
constexpr int kManyTokensRows = 2;
#endif
constexpr int kFewTokens = kManyTokensRows == 4 ? kTileTokens : 2;  // up to here 4 rows fit
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

// Rows that advance side by side. Weights that come from memory are read the faster the fewer streams there are, so few token rows take
// their weight rows one after the other (40 against 34 GB/s a core on Zen 5), as far as the latency of multiply-adds allows.
template <int kTokens, bool kPrefetch>
constexpr int rows_side_by_side() {
  constexpr int kParallel = kLanes * kTokens;  // products of a step that do not wait for each other, with one row
  constexpr int kMost = kTokens <= kFewTokens ? 4 : kManyTokensRows;
  return kPrefetch && kParallel >= 8 && kTokens <= 3 ? 2 : kMost;
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

// acc + the products of whole vectors of columns [k, end) of one row, with a prefetch `distance` bytes ahead of every line (to any place:
// an offset between unrelated objects, hence unsigned).
template <class W, PrefetchInto kInto>
HWY_INLINE V stream_lines(const char* HWY_RESTRICT w, const float* HWY_RESTRICT a, int64_t k, int64_t end, uintptr_t distance, V acc) {
  const D d;
  constexpr auto kWidth = static_cast<int64_t>(sizeof(W));
  constexpr int64_t kStep = std::max<int64_t>(kLanes, kLine / kWidth);  // columns of a line
  const auto line = [&](int64_t at) HWY_ATTR {
    prefetch_line<kInto>(reinterpret_cast<uintptr_t>(w + at * kWidth) + distance);
#pragma GCC unroll 8
    for (int64_t i = 0; i < kStep; i += kLanes) acc = hn::MulAdd(load_weights<W>(d, w + (at + i) * kWidth), hn::LoadU(d, a + at + i), acc);
  };
  for (; k + 2 * kStep <= end; k += 2 * kStep) {
    line(k);
    line(k + kStep);
  }
  if (k + kStep <= end) {
    line(k);
    k += kStep;
  }
  for (; k < end; k += kLanes) acc = hn::MulAdd(load_weights<W>(d, w + k * kWidth), hn::LoadU(d, a + k), acc);
  return acc;
}

// Where the prefetches of a tile go: while they are inside the tile's weights, `inside` bytes ahead; then `past` bytes ahead, which leads
// to tile.next. They pass the end while the multiplications are at column `column` of row `row`.
struct Distances {
  uintptr_t inside, past;
  int64_t row, column;

  uintptr_t of_row(int64_t r) const { return r < row ? inside : past; }
};

template <class W>
HWY_INLINE Distances distances(const ProductTile& tile) {
  constexpr int64_t kStep = std::max<int64_t>(kLanes, kLine / static_cast<int64_t>(sizeof(W)));
  const int64_t row_bytes = tile.columns * static_cast<int64_t>(sizeof(W)), bytes = tile.rows * row_bytes;
  const int64_t left = std::max<int64_t>(bytes - tile.prefetch, 0);
  const auto w = reinterpret_cast<uintptr_t>(tile.w), next = tile.next ? reinterpret_cast<uintptr_t>(tile.next) : w;
  const auto inside = static_cast<uintptr_t>(tile.prefetch);
  const int64_t column = left % row_bytes / static_cast<int64_t>(sizeof(W));
  return {inside, next - w - static_cast<uintptr_t>(bytes) + inside, left / row_bytes, (column + kStep - 1) / kStep * kStep};
}

// The products of columns [k, k + columns) of a row: the accumulator of one column block.
template <class W, PrefetchInto kInto>
HWY_INLINE V stream_block(const ProductTile& tile, const Distances& distances, int64_t row, int64_t k, int64_t columns) {
  constexpr auto kWidth = static_cast<int64_t>(sizeof(W));
  const char* w = static_cast<const char*>(tile.w) + (row * tile.columns + k) * kWidth;
  const float* a = tile.a + k;
  const int64_t whole = columns - columns % kLanes;
  V acc = hn::Zero(D());
  int64_t done = 0;
  if (HWY_UNLIKELY(row == distances.row)) {
    done = std::clamp<int64_t>(distances.column - k, 0, whole);
    acc = stream_lines<W, kInto>(w, a, 0, done, distances.inside, acc);
  }
  acc = stream_lines<W, kInto>(w, a, done, whole, distances.of_row(row), acc);
  if (const int64_t tail = columns - whole; HWY_UNLIKELY(tail > 0)) {
    W rest_w[kLanes];
    float rest_a[kLanes] = {};
    std::memset(static_cast<void*>(rest_w), 0, sizeof rest_w);
    std::memcpy(static_cast<void*>(rest_w), w + whole * kWidth, static_cast<size_t>(tail * kWidth));
    std::memcpy(static_cast<void*>(rest_a), a + whole, static_cast<size_t>(tail) * sizeof(float));
    acc = hn::MulAdd(load_weights<W>(D(), reinterpret_cast<const char*>(rest_w)), hn::LoadU(D(), rest_a), acc);
  }
  return acc;
}

// One token row against weights that come from memory, row after row as they lie there. A row has one chain of multiply-adds, which alone
// is slower than memory: the loop has so few instructions that the processor's window holds more than one row. Four rows are folded at
// once.
template <class W, PrefetchInto kInto>
void stream_tile(const ProductTile& tile) {
  constexpr int kRows = 4;
  constexpr int64_t kBlocks = 8;  // column blocks whose sums wait for their fold
  const Distances ahead = distances<W>(tile);
  V sums[kBlocks][kRows];
  for (int row = 0; row < tile.rows; row += kRows) {
    const int rows = std::min(kRows, tile.rows - row);
    for (int64_t first = 0; first < tile.columns; first += kBlocks * kColumnBlock) {
      const int64_t columns = std::min(tile.columns - first, kBlocks * kColumnBlock);
      for (int r = 0; r < rows; ++r) {
        V* sum = &sums[0][r];
        for (int64_t k = 0; k < columns; k += kColumnBlock, sum += kRows)
          *sum = stream_block<W, kInto>(tile, ahead, row + r, first + k, std::min<int64_t>(kColumnBlock, columns - k));
      }
      for (int64_t block = 0; block * kColumnBlock < columns; ++block) {
        V* s = sums[block];
        for (int r = rows; r < kRows; ++r) s[r] = hn::Zero(D());
        HWY_ALIGN float folded[kRows];
        fold4(D(), s[0], s[1], s[2], s[3], folded);
        for (int r = 0; r < kRows; ++r) tile.c[row + r] = first + block == 0 ? folded[r] : tile.c[row + r] + folded[r];
      }
    }
  }
}

constexpr uintptr_t kFourStreamsPrefetch = 1 << 10;  // bytes ahead, in each

// The same as four streams: rows that lie a quarter of the tile apart, side by side.
template <class W>
void stream_tile_in_four(const ProductTile& tile) {
  constexpr int kStreams = 4;
  const int quarter = (tile.rows + kStreams - 1) / kStreams;
  for (int row = 0; row < quarter; ++row) {
    for (int64_t k = 0; k < tile.columns; k += kColumnBlock) {
      const char* w[kStreams];
      for (int s = 0; s < kStreams; ++s) {
        const int64_t index = std::min(s * quarter + row, tile.rows - 1);  // past the end the last one, which is dropped
        w[s] = static_cast<const char*>(tile.w) + (index * tile.columns + k) * static_cast<int64_t>(sizeof(W));
      }
      V sums[kStreams];
      dot_rows<W, kStreams, 1, true>(w, tile.a + k, tile.lda, std::min<int64_t>(kColumnBlock, tile.columns - k),
                                     AheadInRows{w, kFourStreamsPrefetch}, sums);
      HWY_ALIGN float folded[kStreams];
      fold4(D(), sums[0], sums[1], sums[2], sums[3], folded);
      for (int s = 0; s < kStreams && s * quarter + row < tile.rows; ++s) {
        float& c = tile.c[s * quarter + row];
        c = k == 0 ? folded[s] : c + folded[s];
      }
    }
  }
}

template <class W>
void stream_tile_into(const ProductTile& tile) {
  if (tile.four_streams) return stream_tile_in_four<W>(tile);
  switch (tile.into) {
    case PrefetchInto::l1:
      return stream_tile<W, PrefetchInto::l1>(tile);
    case PrefetchInto::l1_once:
      return stream_tile<W, PrefetchInto::l1_once>(tile);
    case PrefetchInto::l2:
      return stream_tile<W, PrefetchInto::l2>(tile);
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
      if constexpr (kPrefetch && kLanes >= 16) return stream_tile_into<W>(tile);
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
