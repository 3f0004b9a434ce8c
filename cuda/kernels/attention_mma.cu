// Attention of sequences with many rows on the tensor cores, for bfloat16 q, and K and V of bfloat16 or e4m3 (widened on their way into
// shared memory): FlashAttention-2's blocking (Dao, arXiv:2307.08691). Scores and sums are float32; the weights are rounded to bfloat16 for
// the product with V.
//
// Grid [blocks, H], whose blocks take tiles in turn; a tile is kRows query rows of one sequence (find_tile), longest contexts first.
// Sequences with a single row are left to others. A block walks the keys in blocks of kKeys that start at multiples of kKeys
// in the sequence, so that a row's sums have the same order however the prompt was cut into steps. Shared memory, bf16: Q [kRows][kDh], K
// and V [2 stages][kKeys][kDh], zero beyond Dh and beyond the last position; the 16-byte pieces of a row are swizzled by the row's number,
// so that the eight rows of an ldmatrix lie in different banks. K and V of the next block are copied (cp.async; e4m3 passes through
// registers) while this one is multiplied. A warp owns 16 rows: m16n8k16 products with Q as A and K as B; the scores' accumulators are,
// rounded, the A of the product with V. Preconditions: Dh a multiple of 8, at most 128. Operations: 4 * kDh per visible (row, key) pair and
// head; K and V are read ceil(T / kRows) times per head, mostly from L2.
#include <cuda_bf16.h>

#include <algorithm>

#include "cuda/attention.h"
#include "cuda/device/convert.cuh"
#include "cuda/device/dependent.cuh"
#include "cuda/device/kv.cuh"
#include "cuda/device/launch.h"

namespace bolide {
namespace {

using Bf16 = __nv_bfloat16;
constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;
constexpr int kRows = kWarps * 16;
constexpr int kKeys = 64;
constexpr int kPiece = 8;  // elements of 16 bytes

template <int kDh>
__device__ inline Bf16* piece(Bf16* tile, int row, int column) {
  return tile + row * kDh + ((column ^ (row & 7)) * kPiece);
}
__device__ inline unsigned shared_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

// 16 bytes from global to shared memory, or zeros.
__device__ inline void copy_piece(void* to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0));
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;"); }
template <int kPending>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending));
}

__device__ inline void load_matrices(unsigned (&r)[4], const void* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(p)));
}
__device__ inline void load_matrices_transposed(unsigned (&r)[4], const void* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(p)));
}
__device__ inline void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ inline unsigned pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&pair);
}

template <int kDh>
__device__ void copy_queries(const AttentionParameters& p, const Tile& tile, int head, Bf16* q) {
  for (int i = threadIdx.x; i < kRows * kDh / kPiece; i += kThreads) {
    const int row = i / (kDh / kPiece), column = i % (kDh / kPiece);
    const bool valid = row < tile.rows && column * kPiece < p.head_dim;
    const int64_t at = (static_cast<int64_t>(tile.first_row + (valid ? row : 0)) * p.heads + head) * p.head_dim;
    copy_piece(piece<kDh>(q, row, column), static_cast<const Bf16*>(p.q) + at + (valid ? column * kPiece : 0), valid);
  }
}

// 8 elements widened, or zeros.
__device__ inline void copy_piece(void* to, const __nv_fp8_e4m3* from, bool valid) {
  *static_cast<uint4*>(to) = widen_f8_to_bf16(valid ? *reinterpret_cast<const uint2*>(from) : make_uint2(0, 0));
}
__device__ inline void copy_piece(void* to, const Bf16* from, bool valid) { copy_piece(to, static_cast<const void*>(from), valid); }

template <class KV, int kDh>
__device__ void copy_keys(const AttentionParameters& p, const int32_t* chunks, int first, int end, int kv_head, Bf16* k, Bf16* v) {
  for (int i = threadIdx.x; i < kKeys * kDh / kPiece; i += kThreads) {
    const int row = i / (kDh / kPiece), column = i % (kDh / kPiece), position = first + row;
    const bool valid = position < end && column * kPiece < p.head_dim;
    const KvPlace place = kv_place(p, chunks, valid ? position : end - 1);
    const int skip = valid ? column * kPiece : 0;
    const KV* from = kv_row<KV>(p.kv, p.layer, place.chunk, kv_head, false, place.offset) + skip;
    copy_piece(piece<kDh>(k, row, column), from, valid);
    copy_piece(piece<kDh>(v, row, column), from + static_cast<int64_t>(p.kv.chunk_tokens) * p.kv.head_dim, valid);
  }
}

// What a lane holds of its warp's 16 rows: of rows lane / 4 and lane / 4 + 8, in each block of 8 columns the columns 2 (lane % 4), + 1.
template <int kDh>
struct WarpRows {
  float m[2] = {-INFINITY, -INFINITY}, l[2] = {0.0f, 0.0f};  // l: this lane's columns alone
  float o[kDh / 8][4] = {};
};

template <int kDh>
__device__ inline void score(const unsigned (&q)[kDh / 16][4], Bf16* k, float (&s)[kKeys / 8][4]) {
  const int lane = threadIdx.x & 31, row = (lane & 7) + (lane >> 4) * 8, column = lane >> 3 & 1;
#pragma unroll
  for (int n = 0; n < kKeys / 8; ++n) s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
#pragma unroll
  for (int d = 0; d < kDh / 16; ++d) {
#pragma unroll
    for (int n = 0; n < kKeys / 16; ++n) {
      unsigned b[4];
      load_matrices(b, piece<kDh>(k, n * 16 + row, d * 2 + column));
      multiply(s[2 * n], q[d], b[0], b[1]);
      multiply(s[2 * n + 1], q[d], b[2], b[3]);
    }
  }
}

// Scores become weights exp2(score - maximum), -inf where the row must not see the key; state is rescaled to the new maximum.
template <int kDh>
__device__ inline void soften(const AttentionParameters& p, int base, int first_position, float (&s)[kKeys / 8][4], WarpRows<kDh>& state) {
  const int lane = threadIdx.x & 31, position = first_position + (lane >> 2), key = base + (lane & 3) * 2;
  // The warp's first row sees the block's last key, and its last row the block's first.
  const bool all_visible = base + kKeys - 1 <= first_position && base >= first_visible(p, first_position + 15);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row_position = position + half * 8, row_first = first_visible(p, row_position);
    float top = state.m[half];
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& v = s[n][half * 2 + e];
        const int at = key + n * 8 + e;
        v = all_visible || (at <= row_position && at >= row_first) ? v * p.scale_log2 : -INFINITY;
        top = fmaxf(top, v);
      }
    }
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
    const float factor = state.m[half] == top ? 1.0f : exp2f(state.m[half] - top), shift = top == -INFINITY ? 0.0f : top;
    state.m[half] = top;
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float& v = s[n][half * 2 + e];
        v = exp2f(v - shift);
        sum += v;
      }
    }
    state.l[half] = state.l[half] * factor + sum;
#pragma unroll
    for (int d = 0; d < kDh / 8; ++d) {
      state.o[d][half * 2] *= factor;
      state.o[d][half * 2 + 1] *= factor;
    }
  }
}

template <int kDh>
__device__ inline void add_values(const float (&s)[kKeys / 8][4], Bf16* v, float (&o)[kDh / 8][4]) {
  const int lane = threadIdx.x & 31, row = lane & 15, column = lane >> 4;
#pragma unroll
  for (int n = 0; n < kKeys / 16; ++n) {
    const unsigned a[4] = {pack(s[2 * n][0], s[2 * n][1]), pack(s[2 * n][2], s[2 * n][3]), pack(s[2 * n + 1][0], s[2 * n + 1][1]),
                           pack(s[2 * n + 1][2], s[2 * n + 1][3])};
#pragma unroll
    for (int d = 0; d < kDh / 16; ++d) {
      unsigned b[4];
      load_matrices_transposed(b, piece<kDh>(v, n * 16 + row, d * 2 + column));
      multiply(o[2 * d], a, b[0], b[1]);
      multiply(o[2 * d + 1], a, b[2], b[3]);
    }
  }
}

template <int kDh>
__device__ void store_rows(const AttentionParameters& p, const Tile& tile, int head, WarpRows<kDh>& state) {
  const int lane = threadIdx.x & 31, first = (threadIdx.x >> 5) * 16 + (lane >> 2);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float l = state.l[half];
    l += __shfl_xor_sync(0xffffffffu, l, 1);
    l += __shfl_xor_sync(0xffffffffu, l, 2);
    const int row = first + half * 8;
    if (row >= tile.rows) continue;
    Bf16* to = static_cast<Bf16*>(p.out) + (static_cast<int64_t>(tile.first_row + row) * p.heads + head) * p.head_dim;
#pragma unroll
    for (int d = 0; d < kDh / 8; ++d) {
      const int column = d * 8 + (lane & 3) * 2;
      if (column >= p.head_dim) break;
      *reinterpret_cast<unsigned*>(to + column) = pack(state.o[d][half * 2] / l, state.o[d][half * 2 + 1] / l);
    }
  }
}

template <class KV, int kDh>
__device__ void attend_tile(const AttentionParameters& p, const Tile& tile, Bf16* q) {
  Bf16* k = q + kRows * kDh;
  Bf16* v = k + 2 * kKeys * kDh;
  const int head = blockIdx.y, kv_head = head / (p.heads / p.kv_heads), warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int32_t* chunks = p.in.chunk_ids + p.in.chunk_offsets[tile.sequence];
  const int first_position = p.in.positions[tile.first_row], end = first_position + tile.rows;
  int base = first_visible(p, first_position) / kKeys * kKeys;

  copy_queries<kDh>(p, tile, head, q);
  copy_keys<KV, kDh>(p, chunks, base, end, kv_head, k, v);
  commit_copies();
  WarpRows<kDh> state;
  unsigned q_parts[kDh / 16][4];
  for (int stage = 0; base < end; base += kKeys, stage ^= 1) {
    if (base + kKeys < end) {
      copy_keys<KV, kDh>(p, chunks, base + kKeys, end, kv_head, k + (stage ^ 1) * kKeys * kDh, v + (stage ^ 1) * kKeys * kDh);
      commit_copies();
      wait_copies<1>();
    } else {
      wait_copies<0>();
    }
    __syncthreads();
    // Read again in every block: held, they would take 32 registers from the accumulators.
#pragma unroll
    for (int d = 0; d < kDh / 16; ++d) load_matrices(q_parts[d], piece<kDh>(q, warp * 16 + (lane & 15), d * 2 + (lane >> 4)));
    float s[kKeys / 8][4];
    score<kDh>(q_parts, k + stage * kKeys * kDh, s);
    soften<kDh>(p, base, first_position + warp * 16, s, state);
    add_values<kDh>(s, v + stage * kKeys * kDh, state.o);
    __syncthreads();  // before this stage's memory is copied into again
  }
  store_rows<kDh>(p, tile, head, state);
}

// A block takes tiles in turn, so that a launch sized for any step costs little where there are none.
template <class KV, int kDh>
__global__ void __launch_bounds__(kThreads) prefill_mma_kernel(AttentionParameters p) {
  extern __shared__ uint4 shared[];
  let_next_start();
  // Widened contexts are attention_wgmma's.
  const bool widened = p.wide_chunks > 0 && count_context_chunks(p) <= p.wide_chunks;
  const int tiles = widened ? 0 : count_tiles<kRows>(p.in);
  wait_for_previous();
  const int blocks = gridDim.x, block = blockIdx.x;
  // There and back again: who has had a long tile gets a short one.
  for (int first = 0, i = block; first < tiles; first += blocks, i = first + (first / blocks % 2 ? blocks - 1 - block : block)) {
    if (i < tiles) attend_tile<KV, kDh>(p, find_tile<kRows>(p.in, tiles - 1 - i), reinterpret_cast<Bf16*>(shared));
  }
}

template <class KV, int kDh>
void launch_mma(CudaContext& context, const AttentionParameters& p, const CudaSite& site) {
  const size_t shared = static_cast<size_t>(kRows + 4 * kKeys) * kDh * sizeof(Bf16);
  constexpr int kBlocks = 2;  // a multiprocessor, as many as there is room for
  const int32_t tiles = context.capacity.tokens / kRows + context.capacity.sequences;
  const dim3 grid(std::min(tiles, std::max(1, kBlocks * context.multiprocessors / p.heads)), p.heads);
  launch_with({context.dependent_launch}, site, prefill_mma_kernel<KV, kDh>, grid, dim3(kThreads), shared, context.stream, p);
}

}  // namespace

bool attention_mma_fits(const AttentionParameters& p) {
  return p.activations == DType::bf16 && (p.kv.dtype == DType::bf16 || p.kv.dtype == DType::f8) && p.head_dim % 8 == 0 && p.head_dim <= 128;
}

void attention_mma(CudaContext& context, const AttentionParameters& p, const CudaSite& site) {
  if (p.kv.dtype == DType::f8)
    p.head_dim <= 64 ? launch_mma<__nv_fp8_e4m3, 64>(context, p, site) : launch_mma<__nv_fp8_e4m3, 128>(context, p, site);
  else
    p.head_dim <= 64 ? launch_mma<Bf16, 64>(context, p, site) : launch_mma<Bf16, 128>(context, p, site);
}

}  // namespace bolide
