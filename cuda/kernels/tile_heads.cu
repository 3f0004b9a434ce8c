// norm_qkv's product of many rows, which ends in the heads themselves (device/tile_product.cuh): bias, norm of q's and k's heads, rotation,
// q to its buffer, K and V rounded once to the KV dtype and appended to their slots. As norm_qkv.cu states it, and in its order.
//
// A tile's columns are whole heads, and a thread holds of a row's head the pairs (i, i + Dh / 2) that are rotated together; a head's sum of
// squares is that of a quad of lanes.
// Preconditions: Dh 64 or 128; K and V bf16 or e4m3; those of device/tile_product.cuh.
#include <cuda_bf16.h>

#include "cuda/device/convert.cuh"
#include "cuda/device/fault.cuh"
#include "cuda/device/kv.cuh"
#include "cuda/device/tile_product.cuh"

namespace bolide {
namespace {

// Two columns as they lie in memory, in the lower half of the word where they are bytes.
template <class T>
__device__ inline uint32_t packed(float a, float b) {
  if constexpr (sizeof(T) == 2)
    return pack_bf16(a, b);
  else
    return static_cast<uint32_t>(from_float<T>(a).__x) | static_cast<uint32_t>(from_float<T>(b).__x) << 8;
}

template <class KV, int kDh>
struct StoreHeads {
  static constexpr int kBlocks = kDh / 8;  // of 8 columns, in which a thread holds 2

  QkvProduct p;  // of which the product itself is in registers
  __nv_bfloat16* q;
  KvView kv;
  int32_t layer;
  const int32_t* slots;
  DeviceFault* fault;

  static constexpr int kRowBytes = kDh * static_cast<int>(sizeof(float));  // the row's turns
  __device__ const void* row_bytes(int first_output) const { return first_output / kDh < p.heads + p.kv_heads ? p.rope : nullptr; }
  struct Shared {
    float norms[2][kDh];  // of q and of k
  };
  struct Early {
    int32_t slots[2];  // of the thread's rows; 0 where the step has none
  };
  __device__ Early begin(Shared& shared, const TilePlaceOfSums& place) const {
    if (const int i = threadIdx.x; i < kDh) {
      if (p.q_norm) shared.norms[0][i] = p.q_norm[i];
      if (p.k_norm) shared.norms[1][i] = p.k_norm[i];
    }
    Early early;
#pragma unroll
    for (int h = 0; h < 2; ++h) early.slots[h] = place.first_row + 8 * h < place.rows ? slots[place.first_row + 8 * h] : 0;
    return early;
  }

  template <int kSums>
  __device__ void operator()(const float (&d)[kSums], const TilePlaceOfSums& place, const Early& early, const Shared& shared,
                             const unsigned char* turns) const {
    // Not unrolled, the loop over rows is half the code, which each launch fetches anew; a tile of more sums has no registers for that.
    constexpr int kUnrolledRows = kSums > 64 ? 2 : 1;
#pragma unroll
    for (int head = 0; head < kSums / (4 * kBlocks); ++head) {
#pragma unroll kUnrolledRows
      for (int h = 0; h < 2; ++h) {
        float v[kBlocks][2];
#pragma unroll
        for (int j = 0; j < kBlocks; ++j) {
          const int i = 4 * (head * kBlocks + j);
          v[j][0] = h ? d[i + 2] : d[i], v[j][1] = h ? d[i + 3] : d[i + 1];
        }
        const Row row{place.first_row + 8 * h, h ? early.slots[1] : early.slots[0],
                      reinterpret_cast<const float2*>(turns + 8 * h * kRowBytes) + 2 * (threadIdx.x % 4)};
        finish(v, place.first_output / kDh + head, row, row.at < place.rows, shared);
      }
    }
  }

 private:
  struct Row {
    int at;
    int32_t slot;
    const float2* turns;  // of the thread's columns
  };
  // A row's columns 8 j + 2 (lane % 4) and + 1 of one head. All lanes of a warp are here, also for rows that the step does not have.
  __device__ void finish(float (&v)[kBlocks][2], int head, const Row& row, bool present, const Shared& shared) const {
    const int column = 2 * (threadIdx.x % 4);
    const bool is_q = head < p.heads, is_v = head >= p.heads + p.kv_heads;
    if (head >= p.heads + 2 * p.kv_heads) return;
    if (p.bias) {
#pragma unroll
      for (int j = 0; j < kBlocks; ++j) {
        const float2 b = *reinterpret_cast<const float2*>(p.bias + head * kDh + 8 * j + column);
        v[j][0] += b.x, v[j][1] += b.y;
      }
    }
    if (!is_v && (is_q ? p.q_norm : p.k_norm)) normalize(v, shared.norms[is_q ? 0 : 1] + column);
    if (!is_v) rotate(v, row.turns);
    if (is_q) return store(v, q + (static_cast<int64_t>(row.at) * p.heads + head) * kDh, present);
    const bool inside = row.slot >= 0 && row.slot < static_cast<int64_t>(kv.chunks) * kv.chunk_tokens;
    if (!inside) report_fault(fault, DeviceFault::bad_slot, row.at, row.slot);
    const int kv_head = is_v ? head - p.heads - p.kv_heads : head - p.heads;
    store(v, kv_row<KV>(kv, layer, row.slot / kv.chunk_tokens, kv_head, is_v, row.slot % kv.chunk_tokens), present && inside);
  }
  __device__ void normalize(float (&v)[kBlocks][2], const float* norm) const {
    float squares = 0.0f;
#pragma unroll
    for (int j = 0; j < kBlocks; ++j) squares += v[j][0] * v[j][0] + v[j][1] * v[j][1];
    squares += __shfl_xor_sync(0xffffffffu, squares, 1);
    squares += __shfl_xor_sync(0xffffffffu, squares, 2);
    const float rstd = rsqrtf(squares / static_cast<float>(kDh) + p.eps);
#pragma unroll
    for (int j = 0; j < kBlocks; ++j) {
      const float2 weight = *reinterpret_cast<const float2*>(norm + 8 * j);
      v[j][0] *= rstd * weight.x, v[j][1] *= rstd * weight.y;
    }
  }
  __device__ void rotate(float (&v)[kBlocks][2], const float2* turns) const {
#pragma unroll
    for (int j = 0; j < kBlocks / 2; ++j) {
      const float4 both = *reinterpret_cast<const float4*>(turns + 8 * j);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float cosine = e ? both.z : both.x, sine = e ? both.w : both.y, a = v[j][e], b = v[j + kBlocks / 2][e];
        v[j][e] = a * cosine - b * sine;
        v[j + kBlocks / 2][e] = b * cosine + a * sine;
      }
    }
  }
  // Four blocks of columns at a time, one for each lane of the quad.
  template <class T>
  __device__ void store(const float (&v)[kBlocks][2], T* to, bool present) const {
#pragma unroll
    for (int j = 0; j < kBlocks; j += 4) {
      uint32_t w[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) w[k] = packed<T>(v[j + k][0], v[j + k][1]);
      transpose_quad(w);
      if (!present) continue;
      T* at = to + 8 * (j + static_cast<int>(threadIdx.x % 4));
      if constexpr (sizeof(T) == 2)
        *reinterpret_cast<uint4*>(at) = make_uint4(w[0], w[1], w[2], w[3]);
      else
        *reinterpret_cast<uint2*>(at) = make_uint2(w[0] | w[1] << 16, w[2] | w[3] << 16);
    }
  }
};

using UpTo256Rows = TileShape<1, 1, 128, 2, 4>;
using ManyRows = TileShape<2, 1, 256, 1, 4>;
using OfHalf = TileShape<1, 1, 128, 1, 4>;  // beside a block of attention

template <class KV, int kDh>
void run(CudaContext& context, const Operand& x, const MatrixView& weight, const Rows& rows, const TileHeads& t, const CudaSite& site) {
  const StoreHeads<KV, kDh> ending{t.product, static_cast<__nv_bfloat16*>(t.q), t.kv, t.layer, t.slots, context.fault};
  if (context.part != StepPart::whole) return run_tile_product<OfHalf>(context, x, weight, rows, 1, ending, site);
  rows.capacity <= 256 ? run_tile_product<UpTo256Rows>(context, x, weight, rows, 1, ending, site)
                       : run_tile_product<ManyRows>(context, x, weight, rows, 1, ending, site);
}

}  // namespace

bool tile_heads_fit(const CudaContext& context, DType operand, const MatrixView& weight, const Rows& rows, const TileHeads& t) {
  return tile_product_fits(context, operand, weight, rows) && (t.product.head_dim == 64 || t.product.head_dim == 128) &&
         (t.kv.dtype == DType::bf16 || t.kv.dtype == DType::f8);
}

void tile_product_heads(CudaContext& context, const Operand& x, const MatrixView& weight, const TileHeads& t, const Rows& rows,
                        const CudaSite& site) {
  const auto with_head_size = [&](auto kv) {
    using KV = typename decltype(kv)::type;
    t.product.head_dim == 64 ? run<KV, 64>(context, x, weight, rows, t, site) : run<KV, 128>(context, x, weight, rows, t, site);
  };
  t.kv.dtype == DType::bf16 ? with_head_size(TypeTag<__nv_bfloat16>{}) : with_head_size(TypeTag<__nv_fp8_e4m3>{});
}

}  // namespace bolide
