// Products of octets of weight rows with up to kMaxRows vectors at once: products.cuh's with another use of B, whose columns are the step's
// rows (kernels/row_product.cu does the same). Lane (n, t) holds of row n % 4 half of elements 32 i + 8 t .. + 7 of the warp's share for
// i = 0 .. 3: the first four where n < 4, else the others. Words 0 and 1 of the weights' 16 bytes are in A's upper eight rows, words 2 and
// 3 in its lower eight: C's upper left and lower right quarters are the sums. The odd weight rows' pieces are put back in order first
// (products.cuh says why they are not).
#pragma once

#include "cuda/decode/products.cuh"

namespace bolide::decode {

// Where the word of columns `column`, `column` + 1 lies in a row's vector: what the lanes of a poll read at once lies side by side.
__host__ __device__ constexpr int word_of(int column) {
  return column / 32 * 16 + column / 4 % 2 * 8 + column / 8 % 4 * 2 + column / 2 % 2;
}

// A warp's part of the rows' vectors: two words of two elements for each of N stages and 4 pieces. Lanes of rows that are not there have
// the first row's: their columns of the products are not looked at.
template <int N>
struct RowsPart {
  uint32_t v[N][4][2];
  float squares = 0.0f;  // of the residual stream's elements behind them, where the vector is that
};

// Two neighbouring words in four registers: payload and the rest, twice.
__device__ inline void load_words(const uint64_t* from, uint32_t (&to)[4]) {
  asm volatile("{\n .reg .b64 a, b;\n ld.relaxed.gpu.global.v2.b64 {a, b}, [%4];\n mov.b64 {%0, %1}, a;\n mov.b64 {%2, %3}, b;\n}"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "l"(from)
               : "memory");
}

// Polls it. kGated: a lane first asks for its last word alone until that has come, where the wait is long. words: of row 0, the next row's
// row_words further.
template <bool kGated, int N>
__device__ inline void poll_rows(RowsPart<N>& x, const uint64_t* words, int row_words, int rows, int warp, int lane, uint32_t epoch,
                                 Patience& patience, uint32_t phase) {
  static_assert(kMaxRows == 4 && N <= 3, "more loads do not stay in registers");
  const int n = lane >> 2, row = n % 4 < rows ? n % 4 : 0;
  const uint64_t* at = words + row * row_words + 64 * warp + 8 * (n / 4) + 2 * (lane & 3);
  if (kGated)
    for (int i = 0;
         __any_sync(kAllLanes, !load_word(at + kStageColumns / 2 * (N - 1) + 16 * 3 + 1).is_of(epoch) && patience.holds(i, phase));)
      ++i;
  x.squares = 0.0f;
  uint32_t got[4 * N][4], wrong;
  int tries = 0;
  do {  // all lanes load all again: where only some did, or a stage alone, ptxas kept what is there in memory
#pragma unroll
    for (int i = 0; i < 4 * N; ++i) load_words(at + kStageColumns / 2 * (i / 4) + 16 * (i % 4), got[i]);
    wrong = 0;
#pragma unroll
    for (int i = 0; i < 4 * N; ++i) wrong |= got[i][1] ^ epoch << 16 | got[i][3] ^ epoch << 16;
    ++tries;
  } while (__any_sync(kAllLanes, wrong >> 16 != 0 && patience.holds(tries, phase)));
#pragma unroll
  for (int i = 0; i < 4 * N; ++i) {
    x.v[i / 4][i % 4][0] = got[i][0];
    x.v[i / 4][i % 4][1] = got[i][2];
    x.squares += __uint_as_float(__byte_perm(got[i][1], got[i][3], 0x5410));
  }
}

__device__ inline void swap_where(bool condition, uint4& a, uint4& b) {
  const uint4 c = a, d = b;
  a = make_uint4(condition ? d.x : c.x, condition ? d.y : c.y, condition ? d.z : c.z, condition ? d.w : c.w);
  b = make_uint4(condition ? c.x : d.x, condition ? c.y : d.y, condition ? c.z : d.z, condition ? c.w : d.w);
}

// sums[(8 o + r) * kMaxRows + m] = the warp's share of octet o's row r times row m, for kOctets octets of kRowStages stages. fetch() fills
// x and is called once, after the first stages are in registers, so that weights move while the vectors are still under way.
template <int kRowStages, int kOctets, int kStages, class Fetch>
__device__ inline void rows_product(Ring<kStages>& ring, int octets, RowsPart<kRowStages>& x, float* sums, int warp, int lane,
                                    Fetch&& fetch) {
  constexpr int kInRegisters = 6;  // stages: 96 registers
  static_assert(kRowStages <= 3, "weights and vectors do not stay in registers at once");
  constexpr int kTogether = kInRegisters / kRowStages < kOctets ? kInRegisters / kRowStages : kOctets;  // octets
  constexpr int kChains = kTogether == 1 ? 2 : 1;  // of dependent multiplications for each octet
  const int g = lane >> 2, t = lane & 3;
  const bool odd = g & 1;
#pragma unroll 1
  for (int o = 0; o < octets; o += kTogether) {
    float c[kTogether][kChains][4] = {};
    uint4 w[kTogether * kRowStages][4];
    take(ring, min(octets - o, kTogether) * kRowStages, warp, lane, w);
    if (o == 0) fetch();
#pragma unroll
    for (int s = 0; s < kRowStages; ++s) {
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        if (o + i >= octets) break;
        uint4(&a)[4] = w[i * kRowStages + s];
        swap_where(odd, a[0], a[1]);
        swap_where(odd, a[2], a[3]);
#pragma unroll
        for (int j = 0; j < 4; ++j) multiply(c[i][j % kChains], a[j], x.v[s][j][0], x.v[s][j][1]);
      }
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (o + i >= octets) break;
      // Weight row g times rows 2 t, 2 t + 1: the lower half's columns lie two lanes further.
      const float first = t < 2 ? c[i][0][0] : c[i][0][2], second = t < 2 ? c[i][0][1] : c[i][0][3];
      float2 v = make_float2(first, second);
      if (kChains == 2) {
        v.x += t < 2 ? c[i][kChains - 1][0] : c[i][kChains - 1][2];
        v.y += t < 2 ? c[i][kChains - 1][1] : c[i][kChains - 1][3];
      }
      v.x += __shfl_xor_sync(kAllLanes, v.x, 2);
      v.y += __shfl_xor_sync(kAllLanes, v.y, 2);
      if (t < 2) *reinterpret_cast<float2*>(sums + (8 * (o + i) + g) * kMaxRows + 2 * t) = v;
    }
  }
}

}  // namespace bolide::decode
