// How a warp of kernels/row_product.cu multiplies a slice of weight rows with up to 8 rows of a, both in shared memory: bfloat16 on the
// tensor cores, float32 by multiply-adds. Lane (g, t) = (lane / 4, lane % 4) reads 16 bytes of weight row g at once, for kOctets octets of
// rows; the block's kWarps warps take the slice's columns in turns of 64 bytes each.
#pragma once

#include "cuda/device/convert.cuh"

namespace bolide {

// What a warp multiplies: `columns` columns of rows that lie `..._stride` bytes apart.
struct RowSlice {
  const char* a;
  int a_stride, rows;
  const char* w;
  int w_stride, columns;
};

template <class W, int kOctets, bool kWide, int kWarps>
struct RowFragments;

// The 16 bytes are the A fragment of one mma.m16n8k16 as they stand: words 0 and 2 in its upper eight rows, words 1 and 3 in its lower
// eight. So the two halves hold different columns k of the same weight rows. Up to 4 rows of a: B's columns 0 to 3 hold what belongs to
// words 0 and 2, columns 4 to 7 the same rows' values for words 1 and 3, and C's upper left and lower right quarters are the sums. More
// rows (kWide): one mma for each pair of words. Rows of a lie with words 1 and 2 of every 16 bytes exchanged, so that B's fragments need no
// rearrangement either.
template <int kOctets, bool kWide, int kWarps>
struct RowFragments<__nv_bfloat16, kOctets, kWide, kWarps> {
  static constexpr int kStep = 32;  // columns that a warp takes at a time
  // [0] of words 0 and 2, in its upper half; where kWide, [1] of words 1 and 3, in its lower half.
  using Sums = float[kWide ? 2 : 1][kOctets][4];

  __device__ static uint4 staged(const uint4& v) { return make_uint4(v.x, v.z, v.y, v.w); }
  // Columns i .. i + 3 of a row of a.
  __device__ static void put(char* row, int i, const float4& v) {
    // Words 0 and 1 of 16 bytes, or 2 and 3: with 1 and 2 exchanged they go to places 0 and 2, or 1 and 3.
    auto* to = reinterpret_cast<uint32_t*>(row) + (i / 8 * 4 + i % 8 / 4);
    to[0] = pack_bf16(v.x, v.y);
    to[2] = pack_bf16(v.z, v.w);
  }

  __device__ static void add(const RowSlice& s, int warp, int lane, Sums& sum) {
    constexpr int kTogether = kOctets >= 4 ? 2 : 4, kTurn = kWarps * kStep;
    const int g = lane >> 2, t = lane & 3, row = kWide ? g : g % 4;
    // Rows that are not there are read from the first: their columns of C are not stored.
    const char* a = s.a + (row < s.rows ? row : 0) * s.a_stride + t * 16 + (kWide ? 0 : g / 4 * 8);
    const char* w = s.w + g * s.w_stride + t * 16;
    int c = warp * kStep;
    for (; c + (kTogether - 1) * kTurn + kStep <= s.columns; c += kTogether * kTurn) add_steps<kTogether>(a, w, s.w_stride, c, true, sum);
    for (; c < s.columns; c += kTurn) add_steps<1>(a, w, s.w_stride, c, c + t * 8 < s.columns, sum);
  }

  // The warp's sums to its record [rows][kOctets * 8].
  __device__ static void store(const Sums& sum, int rows, int lane, float* to) {
    const int g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int o = 0; o < kOctets; ++o) {
      // Weight row g, rows 2 t and 2 t + 1 of a; rows of the lower half's quarter lie two lanes further.
      float low = kWide || t < 2 ? sum[0][o][0] : sum[0][o][2], high = kWide || t < 2 ? sum[0][o][1] : sum[0][o][3];
      if constexpr (kWide) {
        low += sum[1][o][2], high += sum[1][o][3];
      } else {
        low += __shfl_xor_sync(0xffffffffu, low, 2);
        high += __shfl_xor_sync(0xffffffffu, high, 2);
        if (t >= 2) continue;
      }
      if (2 * t < rows) to[2 * t * kOctets * 8 + o * 8 + g] = low;
      if (2 * t + 1 < rows) to[(2 * t + 1) * kOctets * 8 + o * 8 + g] = high;
    }
  }

 private:
  // c[16, 8] += a[16, 16] * b[16, 8]
  __device__ static void multiply(float (&c)[4], const uint4& a, const uint2& b) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
  }
  // kSteps steps of this lane's rows from `column` on. inside: false where this lane's columns lie past the end.
  template <int kSteps>
  __device__ static void add_steps(const char* a, const char* w, int w_stride, int column, bool inside, Sums& sum) {
    uint2 x[kSteps][kWide ? 2 : 1];
    uint4 weights[kSteps][kOctets];
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int offset = 2 * (column + i * kWarps * kStep);
#pragma unroll
      for (int half = 0; half < (kWide ? 2 : 1); ++half)
        x[i][half] = inside ? *reinterpret_cast<const uint2*>(a + offset + 8 * half) : make_uint2(0, 0);
#pragma unroll
      for (int o = 0; o < kOctets; ++o)
        weights[i][o] = inside ? *reinterpret_cast<const uint4*>(w + offset + o * 8 * w_stride) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
#pragma unroll
      for (int half = 0; half < (kWide ? 2 : 1); ++half) {
#pragma unroll
        for (int o = 0; o < kOctets; ++o) multiply(sum[half][o], weights[i][o], x[i][half]);
      }
    }
  }
};

// Each lane sums its own columns; the four lanes of a weight row are added at the end.
template <int kOctets, bool kWide, int kWarps>
struct RowFragments<float, kOctets, kWide, kWarps> {
  static constexpr int kStep = 16, kRows = kWide ? 8 : 4;
  using Sums = float[kRows][kOctets];

  __device__ static uint4 staged(const uint4& v) { return v; }
  __device__ static void put(char* row, int i, const float4& v) { reinterpret_cast<float4*>(row)[i / 4] = v; }

  __device__ static void add(const RowSlice& s, int warp, int lane, Sums& sum) {
    const int g = lane >> 2, t = lane & 3;
#pragma unroll 2
    for (int c = warp * kStep + 4 * t; c < s.columns; c += kWarps * kStep) {
      float4 w[kOctets];
#pragma unroll
      for (int o = 0; o < kOctets; ++o) w[o] = *reinterpret_cast<const float4*>(s.w + (o * 8 + g) * s.w_stride + 4 * c);
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
        if (m >= s.rows) break;
        const float4 a = *reinterpret_cast<const float4*>(s.a + m * s.a_stride + 4 * c);
#pragma unroll
        for (int o = 0; o < kOctets; ++o) sum[m][o] = fmaf(w[o].x, a.x, fmaf(w[o].y, a.y, fmaf(w[o].z, a.z, fmaf(w[o].w, a.w, sum[m][o]))));
      }
    }
  }

  __device__ static void store(const Sums& sum, int rows, int lane, float* to) {
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      if (m >= rows) break;
#pragma unroll
      for (int o = 0; o < kOctets; ++o) {
        float v = sum[m][o];
        v += __shfl_xor_sync(0xffffffffu, v, 1);
        v += __shfl_xor_sync(0xffffffffu, v, 2);
        if (lane % 4 == 0) to[m * kOctets * 8 + o * 8 + lane / 4] = v;
      }
    }
  }
};

}  // namespace bolide
