// Products of octets of weight rows with up to kMaxRows vectors at once: products.cuh's with another use of the tensor cores' fragments,
// whose B has the step's rows as columns. Of the warp's share of k, lane (g, t) has elements 32 i + 8 t .. + 7 of weight row g for i = 0 ..
// 3, in four words each, and the odd weight rows' pieces are put back in order first (products.cuh says why they are not).
//
// More than four rows: lane (n, t) holds the same elements of row n. A's upper eight rows are one octet, its lower eight another (none
// where a block has a single one); words 0 and 1 go into one multiplication, words 2 and 3 into another.
// Up to four ("halves"): lane (n, t) holds half of these elements of row n % 4, the first four where n < 4, else the others. Words 0 and 1
// are A's upper eight rows, words 2 and 3 of the same octet its lower eight: C's upper left and lower right quarters are the sums.
#pragma once

#include <type_traits>

#include "cuda/decode/products.cuh"
#include "cuda/decode/rows_words.cuh"

namespace bolide::decode {

// Stages of the rows' vectors that a warp can have in registers: 8 registers each with up to four rows, else 16.
__host__ __device__ constexpr int most_stages_of_vectors(int rows) { return rows <= kFewerRows ? 8 : 5; }

// A warp's part of the rows' vectors: words of two elements for each of N stages and 4 pieces. Lanes of rows that are not there have the
// first row's: their columns of the products are not looked at.
template <int N, int kRows>
struct RowsPart {
  static constexpr bool kHalves = kRows <= kFewerRows;
  uint32_t v[N][4][kHalves ? 2 : 4];
};

// Polls stages first_stage .. of vectors of C's columns, from `words` on: first a lane's last word of the vector alone until that has come,
// since polls of everything are in the way of what they wait for. squares_words: where the sums of squares begin, or null; returned are
// those of a row over the warp's octets, see row_of_squares(). Where a warp's share ends beyond a narrow stage, its weights are zeros
// (take()), and it reads what any number may stand for: the row's first words of another warp's share, four sectors for the whole warp, in
// blocks side by side those of different ones.
template <class C, int N, int kRows>
__device__ inline float poll_rows(RowsPart<N, kRows>& x, const uint64_t* words, const uint64_t* squares_words, int first_stage, int rows,
                                  int warp, int lane, uint32_t epoch, Patience& patience, uint32_t phase) {
  static_assert(N <= most_stages_of_vectors(kRows), "more loads do not stay in registers");
  constexpr int kPiece = words_of_columns(32), kStage = words_of_columns(C::kWidth);
  constexpr bool kHalves = RowsPart<N, kRows>::kHalves;
  const int n = kHalves ? lane >> 2 & 3 : lane >> 2, row = n < rows ? n : 0, first = 4 * (lane & 1);
  const uint64_t* at = words + word_of(128 / 8 * warp + (lane & 3), row) + (kHalves ? lane >> 4 : 0);
  constexpr int kShares = C::width(C::kStages - 1) / 128;
  const uint64_t* elsewhere = words + word_of(128 / 8 * static_cast<int>(blockIdx.x % kShares), row) + (kHalves ? lane >> 4 : 0);
  const auto place = [&](int stage, int piece) {
    const uint64_t* from = (C::holds(first_stage + stage, warp, 0) ? at : elsewhere) + kStage * stage + kPiece * piece;
    // The half of a share: what it has once more.
    if (C::kAll % 128 != 0 && C::holds(first_stage + stage, warp, 0) && !C::holds(first_stage + stage, warp, piece)) from -= 2 * kPiece;
    return from;
  };
  static_assert(C::kAll % 128 == 0 || (C::kStages == 1 && C::kAll % 128 == 64));
  // Of the lane's eight and four rows.
  const uint64_t* squares_at = squares_words + ((128 / 8 * warp + (lane >> 1)) * kMaxRows + first) / 2;
  const uint32_t age = age_bit(epoch);
  const int gate = C::kStages - 1 - first_stage;
  for (int i = 0;
       __any_sync(kAllLanes, ((load_word(place(gate, 3) + (kHalves ? 0 : 1)).low ^ age) & kAgeBit) != 0 && patience.holds(i, phase));)
    ++i;
  uint32_t squares[N][4], wrong;
  int tries = 0;
  do {  // all lanes load all again: where only some did, or a stage alone, ptxas kept what is there in memory
#pragma unroll
    for (int i = 0; i < 4 * N; ++i) {
      const uint64_t* from = place(i / 4, i % 4);
      if constexpr (kHalves) {
        const Word word = load_word(from);
        x.v[i / 4][i % 4][0] = word.low, x.v[i / 4][i % 4][1] = word.high;
      } else {
        load_words(from, x.v[i / 4][i % 4]);
      }
    }
    wrong = 0;
    if (squares_words) {
#pragma unroll
      for (int s = 0; s < N; ++s) load_squares(squares_at + kStageColumns / 8 * kMaxRows / 2 * s, squares[s]);
#pragma unroll
      for (int i = 0; i < 4 * N; ++i) wrong |= first + i % 4 < rows ? squares[i / 4][i % 4] ^ epoch : 0;
      wrong <<= 13;
    }
#pragma unroll
    for (int i = 0; i < 4 * N; ++i) {
      wrong |= x.v[i / 4][i % 4][0] ^ age;
      if constexpr (!kHalves) wrong |= x.v[i / 4][i % 4][2] ^ age;
    }
    ++tries;
  } while (__any_sync(kAllLanes, (wrong & kAgeBit) != 0 && patience.holds(tries, phase)));
#pragma unroll
  for (int i = 0; i < 4 * N; ++i) {
    x.v[i / 4][i % 4][0] = without_age(x.v[i / 4][i % 4][0]);
    if constexpr (!kHalves) x.v[i / 4][i % 4][2] = without_age(x.v[i / 4][i % 4][2]);
  }
  if (!squares_words) return 0.0f;
  // Four rows' sums go to halves of the lanes, and so on, until each has one.
  float sum[4] = {};
#pragma unroll
  for (int i = 0; i < 4 * N; ++i) sum[i % 4] += __uint_as_float(squares[i / 4][i % 4] & ~1u);
  const bool upper = lane & 16, next = lane & 8;
#pragma unroll
  for (int i = 0; i < 2; ++i) sum[i] = (upper ? sum[2 + i] : sum[i]) + __shfl_xor_sync(kAllLanes, upper ? sum[i] : sum[2 + i], 16);
  float v = (next ? sum[1] : sum[0]) + __shfl_xor_sync(kAllLanes, next ? sum[0] : sum[1], 8);
  v += __shfl_xor_sync(kAllLanes, v, 4);
  return v + __shfl_xor_sync(kAllLanes, v, 2);
}
// The row whose sum of squares a lane has from poll_rows().
__device__ inline int row_of_squares(int lane) { return 4 * (lane & 1) + 2 * (lane >> 4) + (lane >> 3 & 1); }

__device__ inline void swap_where(bool condition, uint4& a, uint4& b) {
  const uint4 c = a, d = b;
  a = make_uint4(condition ? d.x : c.x, condition ? d.y : c.y, condition ? d.z : c.z, condition ? d.w : c.w);
  b = make_uint4(condition ? c.x : d.x, condition ? c.y : d.y, condition ? c.z : d.z, condition ? c.w : d.w);
}

// A weight row's pieces as take() reads them.
__device__ inline void in_order(uint4 (&pieces)[4], bool odd) {
  swap_where(odd, pieces[0], pieces[1]);
  swap_where(odd, pieces[2], pieces[3]);
}

// Where the sum of an octet's row r for the step's row m lies among a warp's sums.
template <int kRows>
__device__ constexpr int sum_at(int octet, int m, int r) {
  return (octet * kRows + m) * 8 + r;
}

// How octets of weights are multiplied by kRows vectors. kPaired: two octets in one multiplication.
template <int kRows, bool kPaired>
struct RowsSums {
  static constexpr bool kHalves = RowsPart<1, kRows>::kHalves;
  static constexpr int kOfOne = kPaired && !kHalves ? 2 : 1;
};

// c: chains of dependent multiplications; a, b: a stage of weights of an octet, and of the next where that is in the same multiplication
// (the same once more where there is none: that half of the sums is not looked at).
template <int kRows, bool kPaired, int kChains, class Part>
__device__ inline void multiply_stage(float (&c)[kChains][4], uint4 (&a)[4], uint4 (&b)[4], const Part& v, bool odd) {
  in_order(a, odd);
  if (RowsSums<kRows, kPaired>::kOfOne == 2 && &a != &b) in_order(b, odd);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if constexpr (RowsSums<kRows, kPaired>::kHalves) {
      multiply(c[j % kChains], a[j], v[j][0], v[j][1]);
    } else {
      const uint4 lower = RowsSums<kRows, kPaired>::kOfOne == 2 ? b[j] : make_uint4(0, 0, 0, 0);
      multiply(c[2 * j % kChains], make_uint4(a[j].x, a[j].y, lower.x, lower.y), v[j][0], v[j][1]);
      multiply(c[(2 * j + 1) % kChains], make_uint4(a[j].z, a[j].w, lower.z, lower.w), v[j][2], v[j][3]);
    }
  }
}
// The chains' sums into `sums`, of octet `octet` and maybe the next.
template <int kRows, bool kPaired, int kChains>
__device__ inline void leave_sums(float (&c)[kChains][4], float* sums, int octet, int lane) {
  const int g = lane >> 2, t = lane & 3;
  float(&sum)[4] = c[0];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (kChains == 2) sum[j] += c[1][j];
    if (kChains == 4) sum[j] = (sum[j] + c[1][j]) + (c[kChains - 2][j] + c[kChains - 1][j]);
  }
  if constexpr (RowsSums<kRows, kPaired>::kHalves) {
    // Weight row g times rows 2 t, 2 t + 1: the other half's columns lie two lanes further.
    float first = t < 2 ? sum[0] : sum[2], second = t < 2 ? sum[1] : sum[3];
    first += __shfl_xor_sync(kAllLanes, first, 2);
    second += __shfl_xor_sync(kAllLanes, second, 2);
    if (t < 2) sums[sum_at<kRows>(octet, 2 * t, g)] = first, sums[sum_at<kRows>(octet, 2 * t + 1, g)] = second;
  } else {
    // Weight row g times rows 2 t, 2 t + 1: of one octet, and of the next.
#pragma unroll
    for (int j = 0; j < 2 * RowsSums<kRows, kPaired>::kOfOne; ++j) sums[sum_at<kRows>(octet + j / 2, 2 * t + j % 2, g)] = sum[j];
  }
}

// The warp's share of the octets' products with kRows rows, into sums: `octets` of matrix C, one octet after the other, kOctets at most or
// exactly (kAll). Wide vectors leave no registers for octets that may be there or not: then one is taken at a time. fetch() fills x and is
// called once, after the first stages are in registers, so that weights move while the vectors are still under way. each() is called when
// the sums of kTurn octets are there (or of the last ones, where those are fewer), and returns where the next ones go.
template <class C, int kOctets, int kRows, bool kAll, int kTurn, int kStages, class Fetch, class Each>
__device__ inline void rows_product(Ring<kStages>& ring, int octets, RowsPart<C::kStages, kRows>& x, float* sums, int warp, int lane,
                                    Fetch&& fetch, Each&& each) {
  constexpr int kRowStages = C::kStages;
  // Stages. In shapes that are not whole fewer: beside more of them, what is asked for of a narrow stage went to memory.
  constexpr int kShort = C::kWhole || (kRowStages > 1 && kRows <= kFewerRows) ? 6 : 2;
  constexpr int kInRegisters = kRowStages == 1 || kOctets == 1 ? kShort : kRowStages == 2 ? 4 : part_of(kRowStages, 2);
  constexpr int kMost = max_of(min_of(kInRegisters / kRowStages, kOctets), 1);
  constexpr int kTogether = kRowStages > 1 && (!kAll || kTurn % kMost != 0) ? 1 : kMost;  // octets
  constexpr bool kPresent = kTogether == 1 || (kAll && kTurn % kTogether == 0);
  constexpr int kPartStages = min_of(kInRegisters, kRowStages);
  static_assert((kTogether == 1 || kTogether % 2 == 0) && (kTurn == kOctets || kTurn % kTogether == 0));
  constexpr bool kPaired = kTogether > 1;
  constexpr int kOfOne = RowsSums<kRows, kPaired>::kOfOne, kSums = kTogether / kOfOne;
  constexpr int kChains = (kSums == 1 ? 2 : 1) * (RowsSums<kRows, kPaired>::kHalves ? 1 : 2);
  const bool odd = lane >> 2 & 1;
  uint4 w[kTogether * kPartStages][4];
  const auto take_part = [&](int o, int part) {
    take<C>(ring, (kPresent ? kTogether : min(octets - o, kTogether)) * min_of(kPartStages, kRowStages - part), part, warp, lane, w);
  };
  take_part(0, 0);
  fetch();  // not within the loop: what may be fetched there or not did not stay in registers
#pragma unroll 1
  for (int o = 0, of_turn = 0;;) {
    float c[kSums][kChains][4] = {};
#pragma unroll
    for (int part = 0; part < kRowStages; part += kPartStages) {
      if (part > 0) take_part(o, part);
#pragma unroll
      for (int s = 0; s < kPartStages; ++s) {
        if (part + s >= kRowStages) break;
#pragma unroll
        for (int i = 0; i < kSums; ++i) {
          if (!kPresent && o + kOfOne * i >= octets) break;
          multiply_stage<kRows, kPaired>(c[i], w[kOfOne * i * kPartStages + s], w[(kOfOne * i + kOfOne - 1) * kPartStages + s],
                                         x.v[part + s], odd);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kSums; ++i) {
      if (!kPresent && o + kOfOne * i >= octets) break;
      leave_sums<kRows, kPaired>(c[i], sums, (kTurn < kOctets ? of_turn : o) + kOfOne * i, lane);
    }
    if (kTurn < kOctets && (of_turn += kTogether) == kTurn) sums = each(), of_turn = 0;
    if (kTogether == kOctets || (o += kTogether) >= octets) break;
    take_part(o, 0);
  }
  if (kTurn == kOctets || kOctets % kTurn != 0) each();
}
template <class C, int kOctets, int kRows, bool kAll, int kStages, class Fetch>
__device__ inline void rows_product(Ring<kStages>& ring, int octets, RowsPart<C::kStages, kRows>& x, float* sums, int warp, int lane,
                                    Fetch&& fetch) {
  rows_product<C, kOctets, kRows, kAll, kOctets>(ring, octets, x, sums, warp, lane, fetch, [sums] { return sums; });
}

// The same of kOctets octets whose stages come in turns, all octets' first, then their second, ... (stream.cuh): so no more of the vectors
// need be in registers at once than a piece. fetch(x, first) fills x with stages first, first + 1, ... of them.
__host__ __device__ constexpr int rows_piece(int row_stages, int rows) {
  const int most = rows <= kFewerRows ? 8 : 3;  // stages: beside the octets' sums, more went to memory
  return part_of(row_stages, most) > 1 || row_stages == 1 ? part_of(row_stages, most) : most;
}
template <class C, int kOctets, int kRows, int kStages, class Fetch>
__device__ inline void rows_product_by_stages(Ring<kStages>& ring, float* sums, int warp, int lane, Fetch&& fetch) {
  constexpr int kRowStages = C::kStages, kPiece = rows_piece(kRowStages, kRows), kRest = kRowStages % kPiece;
  constexpr bool kPaired = kOctets > 1;
  constexpr int kOfOne = RowsSums<kRows, kPaired>::kOfOne, kSums = (kOctets + kOfOne - 1) / kOfOne;
  constexpr int kChains = (kSums == 1 ? 2 : 1) * (RowsSums<kRows, kPaired>::kHalves ? 1 : 2);
  const bool odd = lane >> 2 & 1;
  float c[kSums][kChains][4] = {};
  const auto add_piece = [&](auto& x, auto size, int first) {
    constexpr int kSize = decltype(size)::value, kAtOnce = part_of(kSize, max_of(2 / kOctets, 1));  // stages of every octet
#pragma unroll
    for (int part = 0; part < kSize; part += kAtOnce) {
      uint4 w[kAtOnce * kOctets][4];
      take<C, kAtOnce * kOctets, kStages, kOctets>(ring, kAtOnce * kOctets, first + part, warp, lane, w);
      if (part == 0) fetch(x, first);
#pragma unroll
      for (int s = 0; s < kAtOnce; ++s) {
#pragma unroll
        for (int i = 0; i < kSums; ++i)
          multiply_stage<kRows, kPaired>(c[i], w[s * kOctets + kOfOne * i], w[s * kOctets + min_of(kOfOne * i + kOfOne - 1, kOctets - 1)],
                                         x.v[part + s], odd);
      }
    }
  };
#pragma unroll 1
  for (int first = 0; first < kRowStages - kRest; first += kPiece) {
    RowsPart<kPiece, kRows> x;
    add_piece(x, std::integral_constant<int, kPiece>{}, first);
  }
  if constexpr (kRest > 0) {
    RowsPart<kRest, kRows> x;
    add_piece(x, std::integral_constant<int, kRest>{}, kRowStages - kRest);
  }
#pragma unroll
  for (int i = 0; i < kSums; ++i) leave_sums<kRows, kPaired>(c[i], sums, kOfOne * i, lane);
}

}  // namespace bolide::decode
