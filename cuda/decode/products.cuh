// A block's products: octets of weight rows from the ring times a vector that all blocks made together.
//
// The warps share out k: of each stage's columns warp w takes [128 w, 128 w + 128). Lane (g, t) = (lane / 4, lane % 4) reads 16 bytes of
// weight row g at a time, columns 32 i + 8 t of the share for i = 0 .. 3. They are the A fragment of one mma.m16n8k16 as they stand: words
// 0 and 1 in its upper eight rows, words 2 and 3 in its lower eight. B holds a single vector: column n of it is what lane (n, t) has, four
// elements from column 32 (n / 2) + 8 t + 4 (n % 2) of the share on. So piece i's sums are in the upper rows of column 2 i and in the lower
// rows of column 2 i + 1, and no value is moved between lanes before the product.
//
// Rows lie 2 KB apart, in the same banks. So that the eight lanes of a phase of a 16-byte read, of two rows, meet different ones,
// multiplication i takes piece i of even rows and piece i ^ 1 of odd ones. Both pieces' columns of B are filled, and each row has one
// wanted and one unwanted product, in columns of their own: which of two neighbouring multiplications' sums counts depends on row and
// column.
#pragma once

#include "cuda/decode/edges.cuh"
#include "cuda/decode/stream.cuh"

namespace bolide::decode {

__device__ inline void multiply(float (&c)[4], const uint4& a, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.x), "r"(a.z), "r"(a.y), "r"(a.w), "r"(b0), "r"(b1));
}

// A warp's part of the vector: two words of four elements for each of N stages.
template <int N>
struct VectorPart {
  uint32_t v[N][2];
  float squares = 0.0f;  // of the residual stream's elements behind them, where the vector is that
};

template <int kStages>
struct Ring {
  const char* data;
  uint64_t *full, *empty;
  RingPlace<kStages> place;
  Patience patience;  // of all the thread's waits
};

// First column of the part of a stage that a lane holds.
__device__ inline int lane_column(int warp, int lane) { return 128 * warp + 32 * (lane >> 3) + 8 * (lane & 3) + 4 * (lane >> 2 & 1); }

// N stages' shares of the warp, from the ring into registers. What has landed is asked of all stages at once, since each answer takes as
// long as a read of shared memory. Slots are handed back when the words are in registers: an arrival waits for no read by itself, and a
// copy of the next round might overtake what has only been asked for. first: of the stages, in a row of matrix C; kOctets: of rows whose
// stages come in turns; where the warp's share ends beyond a narrow stage it has zeros.
template <class C, int N, int kStages, int kOctets = 1>
__device__ inline void take(Ring<kStages>& ring, int present, int first, int warp, int lane, uint4 (&w)[N][4]) {
  RingPlace<kStages> place = ring.place;
  bool landed = true;
#pragma unroll
  for (int s = 0; s < N; ++s) {
    if (s >= present) break;
    landed &= phase_is_over(ring.full[place.stage], place.parity);
    place.next();
  }
  place = ring.place;
#pragma unroll
  for (int s = 0; s < N; ++s) {
    if (s >= present) break;
    if (!landed) wait(ring.full[place.stage], place.parity, ring.patience, kStreamPhase);
    const char* from = ring.data + place.stage * kStageBytes + (lane >> 2) * C::kPitch + 256 * warp + 16 * (lane & 3);
    const int odd = lane >> 2 & 1;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (C::holds((first + s / kOctets) % C::kStages, warp, i))
        w[s][i] = *reinterpret_cast<const uint4*>(from + 64 * (i ^ odd));
      else
        w[s][i] = make_uint4(0, 0, 0, 0);
    }
    place.next();
  }
  uint32_t seen = 0;
#pragma unroll
  for (int s = 0; s < N; ++s) {
    if (s >= present) break;
    seen |= w[s][3].w;
  }
  if (seen == 0x7fbadbadu) __nanosleep(20);  // whatever it is: the branch cannot be taken before it is known
  __syncwarp();
#pragma unroll
  for (int s = 0; s < N; ++s) {
    if (s >= present) break;
    if (lane == 0) arrive(ring.empty[ring.place.stage]);
    ring.place.next();
  }
}

// The largest divisor of n up to `most`.
__host__ __device__ constexpr int part_of(int n, int most) {
  while (n % most != 0) --most;
  return most;
}

// Polls the warp's part of a vector of N stages. kGated: first a single word of it until that has come, then all: less traffic where the
// wait is long, a round trip more where it is short.
template <class C, bool kGated>
struct Poll {
  static constexpr int N = C::kStages;
  // Stages: of more, the words do not stay in registers. In as few pieces as that allows where the number has no divisor for it.
  static constexpr int kAtOnce = N <= 12 ? N : part_of(N, 7) > 1 ? part_of(N, 7) : N / ((N + 9) / 10) + 1;
  const uint64_t *at, *gate_at;
  Word gate{};

  // Before work that hides a round trip.
  __device__ Poll(const uint64_t* words, int warp, int lane) : at(words + lane_column(warp, lane) / 2), gate_at(words + last_word(warp)) {
    if (kGated) gate = load_word(gate_at);
  }

  // Of the warp's part; of the vector's first stage where the warp has none.
  __device__ static int last_word(int warp) {
    if (C::kWhole) return kStageColumns / 2 * (N - 1) + 64 * warp + 63;
    const int last = C::holds(N - 1, warp, 0) ? N - 1 : N > 1 && C::holds(0, warp, 0) ? N - 2 : 0;
    return (C::kWidth * last + min(128 * warp + 128, C::width(last))) / 2 - 1;
  }

  __device__ void finish(VectorPart<N>& x, int warp, int lane, uint32_t epoch, Patience& patience, uint32_t phase) {
    if (kGated)
      for (int n = 0; !gate.is_of(epoch) && patience.holds(n, phase); ++n) gate = load_word(gate_at);
    x.squares = 0.0f;
#pragma unroll
    for (int first = 0; first < N; first += kAtOnce) {
      WordPair got[kAtOnce];
      const auto held = [&](int s) { return first + s < N && C::holds(first + s, warp, lane >> 3); };
      bool missing = true;
      int n = 0;
      do {
        if (missing) {  // lanes that have everything load nothing
#pragma unroll
          for (int s = 0; s < kAtOnce; ++s)
            if (held(s)) got[s] = load_words(at + C::kWidth / 2 * (first + s));
          missing = false;
#pragma unroll
          for (int s = 0; s < kAtOnce; ++s) missing |= held(s) && !got[s].are_of(epoch);
        }
        ++n;
      } while (__any_sync(kAllLanes, missing && patience.holds(n, phase)));
#pragma unroll
      for (int s = 0; s < kAtOnce; ++s) {
        if (first + s >= N) break;
        x.v[first + s][0] = held(s) ? got[s].a.low : 0;
        x.v[first + s][1] = held(s) ? got[s].b.low : 0;
        x.squares += held(s) ? __uint_as_float(__byte_perm(got[s].a.high, got[s].b.high, 0x5410)) : 0.0f;
      }
    }
  }
};

// sums[.][warp][8 o + r] = the warp's share of octet o's row r, for `octets` (at least one, kOctets at most) of matrix C. fetch() fills x
// and is called once, after the first stages are in registers, so that weights move while the vector is still under way. Those are at most
// kInRegisters stages, of 16 registers each.
template <class C, int kOctets, int kInRegisters, int kStages, class Fetch>
__device__ inline void product(Ring<kStages>& ring, int octets, VectorPart<C::kStages>& x, float* sums, int warp, int lane, Fetch&& fetch) {
  constexpr int kRowStages = C::kStages;
  constexpr int kTogether =
      kRowStages <= kInRegisters ? (kInRegisters / kRowStages < kOctets ? kInRegisters / kRowStages : kOctets) : 1;  // octets
  constexpr int kPartStages = C::kWhole ? part_of(kRowStages, kInRegisters) : min_of(kRowStages, kInRegisters);
  constexpr int kParts = (kRowStages + kPartStages - 1) / kPartStages;
  constexpr int kChains = kTogether <= 2 ? 4 : 2;  // of dependent multiplications for each octet: one waits 33 clocks for the one before
#pragma unroll 1
  for (int o = 0; o < octets; o += kTogether) {
    float c[kTogether][kChains][4] = {};
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      uint4 w[kTogether * kPartStages][4];
      const int left = kRowStages - part * kPartStages;  // in the row
      take<C>(ring, min(octets - o, kTogether) * min_of(kPartStages, left), part * kPartStages, warp, lane, w);
      if (part == 0 && o == 0) fetch();
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        if (o + i >= octets) break;
#pragma unroll
        for (int s = 0; s < kPartStages; ++s) {
          if (s >= left) break;
          const uint32_t* b = x.v[part * kPartStages + s];
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const bool mine = lane >> 4 == j >> 1;
            multiply(c[i][j % kChains], w[i * kPartStages + s][j], mine ? b[0] : 0, mine ? b[1] : 0);
          }
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (o + i >= octets) break;
      // Column pair t of row g is piece t's: wanted from multiplications of t's parity in even rows, of the other in odd ones.
      const bool other = (lane ^ lane >> 2) & 1;
      float v = other ? c[i][1][0] + c[i][1][3] : c[i][0][0] + c[i][0][3];
      if (kChains == 4) v += other ? c[i][kChains - 1][0] + c[i][kChains - 1][3] : c[i][kChains - 2][0] + c[i][kChains - 2][3];
      v += __shfl_xor_sync(kAllLanes, v, 1);
      v += __shfl_xor_sync(kAllLanes, v, 2);
      if ((lane & 3) == 0) sums[8 * (o + i) + (lane >> 2)] = v;
    }
  }
}

}  // namespace bolide::decode
