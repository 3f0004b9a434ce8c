// Attention of sequences with many rows, any dtypes and head sizes: a tile of kRows query rows of one head walks the sequence's keys in
// blocks of kKeys, with an online softmax (Milakov & Gimelshein, arXiv:1805.02867) and all arithmetic in float32.
//
// Grid [tiles, H]; tiles <= ceil(T / kRows) + S, each block finds its sequence by counting tiles through query_offsets. Sequences
// with a single row are left to attention_decode.cu. Key blocks start at multiples of kKeys in the sequence, so that a row's sums
// have the same order however the prompt was cut into steps.
// Shared memory, f32: Q [kRows][Dh], K and V [kKeys][Dh], each row padded by 4 floats so that the lanes' 16-byte reads of
// neighbouring keys fall into different banks; P [warps][kWarpRows][kKeys].
// A warp owns kWarpRows rows: for the scores each lane owns a key, for the output the columns lane + 32 j.
// Operations: 4 * Dh per visible (row, key) pair and head; K and V are read ceil(T / kRows) times per head, mostly from L2.
#include "cuda/attention.h"
#include "cuda/device/convert.cuh"
#include "cuda/device/kv.cuh"
#include "cuda/device/launch.h"
#include "cuda/device/reduce.cuh"

namespace bolide {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kWarpRows = 4;
constexpr int kRows = kWarps * kWarpRows;
constexpr int kKeys = 32;

// Rows of Dh elements into shared memory as f32, zero beyond Dh and for rows that are not there.
template <class KV>
__device__ void load_keys(const AttentionParameters& p, const int32_t* chunks, int first, int end, int kv_head, float* k, float* v,
                          int width, int stride) {
  for (int i = threadIdx.x; i < kKeys * width; i += kThreads) {
    const int key = i / width, d = i - key * width, position = first + key;
    float k_value = 0.0f, v_value = 0.0f;
    if (position < end && d < p.head_dim) {
      const KvPlace place = kv_place(p, chunks, position);
      k_value = to_float(kv_row<KV>(p.kv, p.layer, place.chunk, kv_head, false, place.offset)[d]);
      v_value = to_float(kv_row<KV>(p.kv, p.layer, place.chunk, kv_head, true, place.offset)[d]);
    }
    k[key * stride + d] = k_value;
    v[key * stride + d] = v_value;
  }
}

__device__ void load_queries(const AttentionParameters& p, const Tile& tile, int head, float* q, int width, int stride) {
  for (int i = threadIdx.x; i < kRows * width; i += kThreads) {
    const int row = i / width, d = i - row * width;
    float value = 0.0f;
    if (row < tile.rows && d < p.head_dim) {
      const int64_t at = (static_cast<int64_t>(tile.first_row + row) * p.heads + head) * p.head_dim + d;
      value = p.activations == DType::bf16 ? to_float(static_cast<const __nv_bfloat16*>(p.q)[at]) : static_cast<const float*>(p.q)[at];
    }
    q[row * stride + d] = value * p.scale_log2;
  }
}

// Scores of the warp's rows against the lane's key.
__device__ inline void score_rows(const float* q, const float* key, int width, int stride, float (&score)[kWarpRows]) {
#pragma unroll
  for (int r = 0; r < kWarpRows; ++r) score[r] = 0.0f;
  for (int d = 0; d < width; d += 4) {
    const float4 k = *reinterpret_cast<const float4*>(key + d);
#pragma unroll
    for (int r = 0; r < kWarpRows; ++r) {
      const float4 a = *reinterpret_cast<const float4*>(q + r * stride + d);
      score[r] = fmaf(a.w, k.w, fmaf(a.z, k.z, fmaf(a.y, k.y, fmaf(a.x, k.x, score[r]))));
    }
  }
}

template <int kColumns>
__device__ inline void add_values(const float* weights, const float* v, int stride, int width, int lane, float (&o)[kWarpRows][kColumns]) {
  for (int key = 0; key < kKeys; key += 4) {
    float4 weight[kWarpRows];
#pragma unroll
    for (int r = 0; r < kWarpRows; ++r) weight[r] = *reinterpret_cast<const float4*>(weights + r * kKeys + key);
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      const int d = lane + 32 * j;
      if (d >= width) break;
      const float v0 = v[key * stride + d], v1 = v[(key + 1) * stride + d];
      const float v2 = v[(key + 2) * stride + d], v3 = v[(key + 3) * stride + d];
#pragma unroll
      for (int r = 0; r < kWarpRows; ++r)
        o[r][j] = fmaf(weight[r].w, v3, fmaf(weight[r].z, v2, fmaf(weight[r].y, v1, fmaf(weight[r].x, v0, o[r][j]))));
    }
  }
}

template <class KV, int kColumns>
__global__ void __launch_bounds__(kThreads) prefill_kernel(AttentionParameters p) {
  extern __shared__ float4 shared4[];
  const Tile tile = find_tile<kRows>(p.in, blockIdx.x);
  if (tile.rows == 0) return;
  const int width = (p.head_dim + 3) / 4 * 4, stride = width + 4;
  float* q = reinterpret_cast<float*>(shared4);
  float* k = q + kRows * stride;
  float* v = k + kKeys * stride;
  float* weights = v + kKeys * stride + (threadIdx.x >> 5) * kWarpRows * kKeys;

  const int head = blockIdx.y, kv_head = head / (p.heads / p.kv_heads);
  const int lane = threadIdx.x & 31, first_row = (threadIdx.x >> 5) * kWarpRows;
  const int32_t* chunks = p.in.chunk_ids + p.in.chunk_offsets[tile.sequence];
  const int first_position = p.in.positions[tile.first_row], last_position = first_position + tile.rows - 1;
  load_queries(p, tile, head, q, width, stride);

  float m[kWarpRows], l[kWarpRows], o[kWarpRows][kColumns] = {};
#pragma unroll
  for (int r = 0; r < kWarpRows; ++r) m[r] = -INFINITY, l[r] = 0.0f;

  for (int base = first_visible(p, first_position) / kKeys * kKeys; base <= last_position; base += kKeys) {
    __syncthreads();  // the block before has been used
    load_keys<KV>(p, chunks, base, last_position + 1, kv_head, k, v, width, stride);
    __syncthreads();
    float score[kWarpRows];
    score_rows(q + first_row * stride, k + lane * stride, width, stride, score);
#pragma unroll
    for (int r = 0; r < kWarpRows; ++r) {
      const int position = first_position + first_row + r, key = base + lane;
      if (key > position || key < first_visible(p, position)) score[r] = -INFINITY;
      const float top = fmaxf(m[r], warp_max(score[r]));
      const float factor = m[r] == top ? 1.0f : exp2f(m[r] - top);
      const float weight = top == -INFINITY ? 0.0f : exp2f(score[r] - top);
      m[r] = top;
      l[r] = l[r] * factor + warp_sum(weight);
#pragma unroll
      for (int j = 0; j < kColumns; ++j) o[r][j] *= factor;
      weights[r * kKeys + lane] = weight;
    }
    __syncwarp();
    add_values<kColumns>(weights, v, stride, width, lane, o);
    __syncwarp();
  }
#pragma unroll
  for (int r = 0; r < kWarpRows; ++r) {
    if (first_row + r >= tile.rows) break;
    const int64_t at = (static_cast<int64_t>(tile.first_row + first_row + r) * p.heads + head) * p.head_dim;
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      const int d = lane + 32 * j;
      if (d >= p.head_dim) break;
      const float value = o[r][j] / l[r];
      if (p.activations == DType::bf16)
        static_cast<__nv_bfloat16*>(p.out)[at + d] = from_float<__nv_bfloat16>(value);
      else
        static_cast<float*>(p.out)[at + d] = value;
    }
  }
}

}  // namespace

void attention_prefill(CudaContext& context, const AttentionParameters& p, const CudaSite& site) {
  const int width = (p.head_dim + 3) / 4 * 4, stride = width + 4;
  const size_t shared = (static_cast<size_t>(kRows + 2 * kKeys) * stride + kWarps * kWarpRows * kKeys) * sizeof(float);
  const dim3 grid(context.capacity.tokens / kRows + context.capacity.sequences, p.heads);
  with_kv_type(p.kv.dtype, [&](auto tag) {
    using KV = typename decltype(tag)::type;
    const auto kernel = width <= 64 ? prefill_kernel<KV, 2> : width <= 128 ? prefill_kernel<KV, 4> : prefill_kernel<KV, 8>;
    launch(site, kernel, grid, dim3(kThreads), shared, context.stream, p);
  });
}

}  // namespace bolide
