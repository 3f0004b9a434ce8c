// The arithmetic of attention over a range of positions, by SIMD target. attention.cpp decides who computes what.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/kernels.h"

namespace bolide {

// Positions are handled in blocks that begin at multiples of this, whatever the chunk size or the prefill's pieces, so that a row's
// result does not depend on them.
constexpr int32_t kAttentionBlock = 32;
constexpr int32_t kMaxTileQueries = 48;

// Queries of one sequence that read the same KV head. Two kernels: `wide` puts queries into SIMD lanes and broadcasts K and V
// (prefill), the other puts the head's elements into lanes (decode; all its queries see the same positions).
struct AttentionTile {
  const CpuKvCache* kv = nullptr;
  const int32_t* chunk_ids = nullptr;  // of the sequence
  int32_t layer = 0, kv_head = 0, head_dim = 0;
  float scale = 1.0f;
  bool wide = false;
  bool prefetch_l2 = false;                                              // K and V into L2 and no nearer
  int32_t lanes = 1;                                                     // attention_lanes()
  int32_t count = 0;                                                     // queries
  const float* query[kMaxTileQueries];                                   // [Dh] each
  float* out[kMaxTileQueries];                                           // [Dh] each
  int32_t begin[kMaxTileQueries], end[kMaxTileQueries];                  // positions each query sees: [begin, end)
  int32_t first_begin = 0, last_begin = 0, first_end = 0, last_end = 0;  // least and greatest of them

  // Distance between the rows of a wide tile's arrays.
  int32_t stride() const { return wide ? (count + lanes - 1) / lanes * lanes : count; }
  // Floats of one state: running maximum m [stride], sum l [stride], unnormalised output o ([Dh, stride] when wide, else [count, Dh]).
  size_t state_floats() const { return static_cast<size_t>(head_dim + 2) * static_cast<size_t>(stride()); }
};
constexpr size_t max_state_floats(int32_t head_dim) { return static_cast<size_t>(head_dim + 2) * kMaxTileQueries; }

// A worker's private memory, 64-byte aligned.
struct AttentionWork {
  float* queries;  // [Dh, kMaxTileQueries], transposed
  float* scores;   // [kAttentionBlock, kMaxTileQueries]
  float* widened;  // [kAttentionBlock, Dh]
};
constexpr size_t attention_work_floats(int32_t head_dim) {
  const auto dh = static_cast<size_t>((head_dim + 15) / 16 * 16);
  return dh * kMaxTileQueries + kAttentionBlock * kMaxTileQueries + kAttentionBlock * dh;
}
AttentionWork attention_work(float* memory, int32_t head_dim);

// Floats in a vector of the SIMD target in use, 16 at most. A wide tile takes up to 3 vectors of queries.
int32_t attention_lanes();

// Transposes a wide tile's queries into `work`; does nothing for other tiles.
void attention_pack(const AttentionTile& tile, const AttentionWork& work);
// Online softmax (Milakov and Gimelshein, arXiv:1805.02867) over positions [from, to) by blocks, as FlashAttention (Dao et al.,
// arXiv:2205.14135) arranges it: writes a fresh state.
void attention_partial(const AttentionTile& tile, int32_t from, int32_t to, const AttentionWork& work, float* state);
// Its two kernels.
void attention_narrow(const AttentionTile& tile, int32_t from, int32_t to, const AttentionWork& work, float* state);
void attention_wide(const AttentionTile& tile, int32_t from, int32_t to, const AttentionWork& work, float* state);
// Joins the state of later positions into `into`.
void attention_merge(const AttentionTile& tile, float* into, const float* later);
// out = o / l.
void attention_finish(const AttentionTile& tile, const float* state);

}  // namespace bolide
