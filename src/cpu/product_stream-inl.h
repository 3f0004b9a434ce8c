// One token against weights that come from memory, per SIMD target (Highway's per-target include pattern). The time is that of reading
// them, and how a core reads the fastest differs: docs/performance.md has what was measured on each.
#if defined(BOLIDE_CPU_PRODUCT_STREAM_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BOLIDE_CPU_PRODUCT_STREAM_INL_H
#undef BOLIDE_CPU_PRODUCT_STREAM_INL_H
#else
#define BOLIDE_CPU_PRODUCT_STREAM_INL_H
#endif

#include <algorithm>
#include <cstring>

#include "cpu/product_rows-inl.h"
#include "cpu/product_tile.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace bolide {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

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

}  // namespace HWY_NAMESPACE
}  // namespace bolide
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
