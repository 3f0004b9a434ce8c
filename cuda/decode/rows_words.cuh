// The edges' words of several rows: half as many bytes as a single row's (edges.cuh), since all blocks read the vectors of all rows, and it
// is those bytes that a step of several rows waits for.
//
// A word of four bf16 holds its age in a bit that the first of them can spare. Of a bf16 whose magnitude is in [2^-63, 2^65), the two
// highest bits of the exponent differ; the second of them is left out, and the epoch's lowest bit stands there. A smaller first element
// becomes 2^-63, with its sign; with a larger one, or what is no number, the second becomes NaN, which ends in the report of logits that
// are none. One bit is enough: between two uses of a word lies an edge that all blocks read from all blocks, so that a word is the one
// awaited or the one before it.
#pragma once

#include "cuda/decode/edges.cuh"
#include "cuda/decode/stream.cuh"

namespace bolide::decode {

// The words of a step. A vector's elements lie in eights, which are one block's work: of a pair of rows an eight is a sector of 32 bytes,
// with one writer (two where blocks share rows out in fours); four eights are a line of 128, which eight lanes of a warp read at once
// (fewer lines at a time: a quarter of a warp that reads of four lines takes four times as long). Sums of squares: of each block's octet of
// the residual stream all rows', a sector. Behind the vectors each row has words of its own, in the form of edges.cuh.
constexpr int kEightWords = 2 * kMaxRows;
// Of the first of an eight's two words of a row.
__host__ __device__ constexpr int word_of(int eight, int row) {
  return eight / 4 * 4 * kEightWords + row / 2 * 16 + eight % 4 * 4 + row % 2 * 2;
}
// Of so many columns' elements, which begin and end with a line.
__host__ __device__ constexpr int words_of_columns(int columns) { return columns / 8 * kEightWords; }
__host__ __device__ constexpr int row_of_word(int word) { return word / 16 % 4 * 2 + word / 2 % 2; }

template <class S>
struct RowWords {
  static constexpr int kHiddenWords = words_of_columns(S::kD), kOctets = octets_of(S::kOwnRows);
  static constexpr int kHiddenIn = 0, kHiddenPost = kHiddenIn + kHiddenWords, kAttention = kHiddenPost + kHiddenWords;
  static constexpr int kMlp = kAttention + words_of_columns(S::kQ), kVectorsEnd = kMlp + words_of_columns(S::kF);
  static constexpr int kSquares = kBlocks * kOctets * kMaxRows / 2;
  static constexpr int kSquaresIn = kVectorsEnd, kSquaresPost = kSquaresIn + kSquares, kRows = kSquaresPost + kSquares;
  static_assert(kOctets == S::kHidden, "a warp asks for as many octets' squares as its share of the vector has eights");
  // Of a row's own. Where it has blocks of its own, their parts are laid out as those of all blocks are with a single row, and are most of
  // them in the kernel for the fewest rows.
  __host__ __device__ static constexpr int group_words(int rows) {
    return S::kBlocksOfRow ? S::row_blocks(rows) * (S::kGroupWidth / 2 + S::kQueryHeads * 2) : S::kGroupWords;
  }
  static constexpr int kGroupWords = group_words(kFewerRows);
  static constexpr int kHeads = 0, kPartials = S::kKvHeads * S::kHeadRows / 2, kBest = kPartials + S::kKvHeads * kGroupWords;
  static constexpr int kOwn = kBest + 2 * kBlocks, kWords = kRows + kMaxRows * kOwn;
};

// A word as it stands.
__device__ inline void store_bits(uint64_t* to, uint64_t v) {
  asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(to), "l"(v) : "memory");
}
__device__ inline void store_bits(uint32_t* to, uint32_t v) {
  asm volatile("st.relaxed.gpu.global.b32 [%0], %1;" ::"l"(to), "r"(v) : "memory");
}

constexpr uint32_t kAgeBit = 1u << 13;
__device__ inline uint32_t age_bit(uint32_t epoch) { return (epoch & 1) << 13; }

// first, second: two bf16 each.
__device__ inline void store_four(uint64_t* to, uint32_t first, uint32_t second, uint32_t epoch) {
  const uint32_t magnitude = first & 0x7fff;
  if (magnitude < 0x2000) first = (first & 0xffff8000) | 0x2000;  // 2^-63
  if (magnitude >= 0x6000) first = 0x7fc03f80;                    // NaN and 1
  first = (first & ~kAgeBit) | age_bit(epoch);
  store_bits(to, static_cast<uint64_t>(second) << 32 | first);
}
// A word's two first elements as they were.
__device__ inline uint32_t without_age(uint32_t first) { return (first & ~kAgeBit) | (~first >> 1 & kAgeBit); }

// The sum of an eight's squares of the residual stream, with its age in the lowest bit of the mantissa.
__device__ inline void store_squares(uint32_t* to, float squares, uint32_t epoch) {
  store_bits(to, (__float_as_uint(squares) & ~1u) | (epoch & 1));
}

// Two neighbouring words, each read as a whole.
__device__ inline void load_words(const uint64_t* from, uint32_t (&to)[4]) {
  asm volatile("{\n .reg .b64 a, b;\n ld.relaxed.gpu.global.v2.b64 {a, b}, [%4];\n mov.b64 {%0, %1}, a;\n mov.b64 {%2, %3}, b;\n}"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "l"(from)
               : "memory");
}
// Four sums of squares, likewise.
__device__ inline void load_squares(const uint64_t* from, uint32_t (&to)[4]) {
  asm volatile("ld.relaxed.gpu.global.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "l"(from)
               : "memory");
}

// Words of rows that a launch does not have get the age that the launch ends with: the next launch takes none of them for a new one. So do
// those of its rows that a kernel for fewer rows has more blocks for. By all blocks together.
template <class S, int kRows>
__device__ inline void age_words(uint64_t* words, int rows, uint32_t epoch, int thread, int threads) {
  using W = RowWords<S>;
  const int first = blockIdx.x * threads + thread, step = gridDim.x * threads;
  for (int i = first; i < W::kVectorsEnd; i += step)
    if (row_of_word(i) >= rows) store_bits(words + i, uint64_t{age_bit(epoch)});
  for (int i = 2 * (W::kSquaresIn + first); i < 2 * W::kRows; i += 2 * step) {
#pragma unroll
    for (int j = 0; j < 2; ++j)
      if ((i + j) % kMaxRows >= rows) store_bits(reinterpret_cast<uint32_t*>(words) + i + j, epoch & 1);
  }
  for (int i = W::kRows + rows * W::kOwn + first; i < W::kWords; i += step) store_word(words + i, 0, 0, epoch);
  if constexpr (W::group_words(kRows) < W::kGroupWords) {
    static_assert(S::kKvHeads == 1);
    for (int row = 0; row < rows; ++row)
      for (int i = W::group_words(kRows) + first; i < W::kGroupWords; i += step)
        store_word(words + W::kRows + row * W::kOwn + W::kPartials + i, 0, 0, epoch);
  }
}

}  // namespace bolide::decode
