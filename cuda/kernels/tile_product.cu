// Products of many rows that end in their epilogue (device/tile_product.cuh): parts of out = x W^T in float32, for whoever adds them
// (PendingSum), or activation(x Wgate^T + bg) * (x Wup^T + bu) in bfloat16.
//
// Layouts: x [T, K] bf16, W [N, K] bf16 (gated: gate rows, then up rows), out [splits][T][N] f32 or gated [T, N / 2] bf16. Rows beyond the
// step's are not stored. Preconditions: N a multiple of 4, and those of device/tile_product.cuh.
#include <cuda_bf16.h>

#include <algorithm>

#include "cuda/device/activate.cuh"
#include "cuda/device/convert.cuh"
#include "cuda/device/tile_product.cuh"

namespace bolide {
namespace {

constexpr int kMostRowsOfParts = 256;  // more rows take cuBLASLt, whose tiles are larger
constexpr int kPiecesOfSplit = 2;      // a part of K has at least as many

struct StoreParts : SumsAlone {
  float* out;
  int64_t stride, part_stride;
  int32_t outputs;

  template <int kSums>
  __device__ void operator()(const float (&d)[kSums], const TilePlaceOfSums& place, Early, const Shared&, const unsigned char*) const {
    const int first = place.first_output + 2 * (threadIdx.x % 4);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = place.first_row + 8 * h;
      if (row >= place.rows) break;
      float* to = out + place.part * part_stride + row * stride;
#pragma unroll
      for (int j = 0; j < kSums / 4; ++j) {
        const int n = first + 8 * j;
        if (n < outputs) *reinterpret_cast<float2*>(to + n) = make_float2(d[4 * j + 2 * h], d[4 * j + 2 * h + 1]);
      }
    }
  }
};

struct StoreGated : SumsAlone {
  __nv_bfloat16* out;
  const float* bias;
  GatedActivation activation;
  int32_t outputs;

  template <int kSums>
  __device__ void operator()(float (&d)[kSums], const TilePlaceOfSums& place, Early, const Shared&, const unsigned char*) const {
    if (bias) add_bias(d, place.first_output);
    // Chosen here and not for each element, so that the elements' operations overlap.
    if (activation == GatedActivation::silu)
      store<GatedActivation::silu>(d, place);
    else if (activation == GatedActivation::gelu_tanh)
      store<GatedActivation::gelu_tanh>(d, place);
    else
      store<GatedActivation::gelu_erf>(d, place);
  }

 private:
  template <int kSums>
  __device__ void add_bias(float (&d)[kSums], int first_output) const {
#pragma unroll
    for (int i = 0; i < kSums / 2; ++i) {
      const int n = min(first_output + 8 * (i / 4) + 2 * static_cast<int>(threadIdx.x % 4) + i % 2, outputs - 1);
      d[i] += bias[n], d[i + kSums / 2] += bias[outputs + n];
    }
  }
  template <GatedActivation kActivation, int kSums>
  __device__ void store(const float (&d)[kSums], const TilePlaceOfSums& place) const {
    constexpr int kBlocks = kSums / 8;  // of 8 columns
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = place.first_row + 8 * h;
      const bool present = row < place.rows;
      __nv_bfloat16* to = out + static_cast<int64_t>(row) * outputs;
      if (kBlocks % 4 == 0 && outputs % 8 == 0)
        store_blocks<kActivation>(d, h, place.first_output, present, to);
      else
        store_pairs<kActivation>(d, h, place.first_output, present, to);
    }
  }
  template <GatedActivation kActivation, int kSums>
  __device__ static uint32_t pair(const float (&d)[kSums], int block, int h) {
    constexpr int kUp = kSums / 2;  // from a gate's sum to its up's
    const int i = 4 * block + 2 * h;
    return pack_bf16(activate_roughly<kActivation>(d[i]) * d[i + kUp], activate_roughly<kActivation>(d[i + 1]) * d[i + 1 + kUp]);
  }
  template <GatedActivation kActivation, int kSums>
  __device__ void store_pairs(const float (&d)[kSums], int h, int first, bool present, __nv_bfloat16* to) const {
#pragma unroll
    for (int j = 0; j < kSums / 8; ++j) {
      const int n = first + 8 * j + 2 * (threadIdx.x % 4);
      const uint32_t word = pair<kActivation>(d, j, h);
      if (present && n < outputs) *reinterpret_cast<uint32_t*>(to + n) = word;
    }
  }
  // Outputs are whole blocks, at multiples of 16 bytes.
  template <GatedActivation kActivation, int kSums>
  __device__ void store_blocks(const float (&d)[kSums], int h, int first, bool present, __nv_bfloat16* to) const {
#pragma unroll
    for (int j = 0; j + 4 <= kSums / 8; j += 4) {
      uint32_t w[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) w[k] = pair<kActivation>(d, j + k, h);
      transpose_quad(w);
      const int n = first + 8 * (j + static_cast<int>(threadIdx.x % 4));
      if (present && n < outputs) *reinterpret_cast<uint4*>(to + n) = make_uint4(w[0], w[1], w[2], w[3]);
    }
  }
};

// As many blocks as multiprocessors where it can be, with about 100 KB of shared memory, so that two fit beside each other.
using Parts32 = TileShape<1, 1, 32, 2, 4>;
using Parts64 = TileShape<1, 1, 64, 2, 3>;
using Gated64Rows = TileShape<1, 2, 48, 1, 7>;
using Gated128Rows = TileShape<1, 2, 96, 1, 5>;
using Gated256Rows = TileShape<2, 2, 96, 1, 4>;
using GatedManyRows = TileShape<2, 2, 256, 1, 4>;

int width_of_parts(const Rows& rows) { return rows.capacity <= 64 ? 32 : 64; }

}  // namespace

bool tile_product_fits(const CudaContext& context, DType operand, const MatrixView& weight, const Rows& rows) {
  if (context.compute_capability != 90 || !compiled_architectures().holds("sm_90a")) return false;
  return rows.capacity > kFewRows && operand == DType::bf16 && weight.dtype == DType::bf16 && weight.rows % 4 == 0;
}

bool tile_parts_fit(const CudaContext& context, DType operand, const MatrixView& weight, const Rows& rows) {
  return tile_product_fits(context, operand, weight, rows) && rows.capacity <= kMostRowsOfParts;
}

int tile_parts(const CudaContext& context, const MatrixView& weight, const Rows& rows) {
  const int64_t width = width_of_parts(rows), row_tiles = (rows.capacity + 63) / 64, pieces = (weight.columns + 127) / 128;
  const int64_t tiles = row_tiles * ((weight.rows + width - 1) / width);
  return static_cast<int>(std::clamp<int64_t>(context.multiprocessors / tiles, 1, std::max<int64_t>(1, pieces / kPiecesOfSplit)));
}

void tile_product_parts(CudaContext& context, const Operand& x, const MatrixView& weight, float* out, int64_t out_stride, int parts,
                        const Rows& rows, const CudaSite& site) {
  const StoreParts ending{{}, out, out_stride, out_stride * rows.capacity, static_cast<int32_t>(weight.rows)};
  width_of_parts(rows) == 32 ? run_tile_product<Parts32>(context, x, weight, rows, parts, ending, site)
                             : run_tile_product<Parts64>(context, x, weight, rows, parts, ending, site);
}

void tile_product_gated(CudaContext& context, const Operand& x, const MatrixView& weight, const float* bias, GatedActivation activation,
                        void* out, const Rows& rows, const CudaSite& site) {
  const StoreGated ending{{}, static_cast<__nv_bfloat16*>(out), bias, activation, static_cast<int32_t>(weight.rows / 2)};
  if (rows.capacity <= 64)
    run_tile_product<Gated64Rows>(context, x, weight, rows, 1, ending, site);
  else if (rows.capacity <= 128)
    run_tile_product<Gated128Rows>(context, x, weight, rows, 1, ending, site);
  else if (rows.capacity <= 256)
    run_tile_product<Gated256Rows>(context, x, weight, rows, 1, ending, site);
  else
    run_tile_product<GatedManyRows>(context, x, weight, rows, 1, ending, site);
}

}  // namespace bolide
