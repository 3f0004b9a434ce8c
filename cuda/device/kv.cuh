// Addresses in the chunked KV cache; the layout is kv_cache.h's.
#pragma once

#include "cuda/context.h"

namespace bolide {

// First of the Dh elements of K (or V) of one position: `offset` within `chunk`.
template <class KV>
__device__ inline KV* kv_row(const KvView& kv, int layer, int chunk, int kv_head, bool is_v, int offset) {
  const int64_t block = ((static_cast<int64_t>(layer) * kv.chunks + chunk) * kv.kv_heads + kv_head) * 2 + (is_v ? 1 : 0);
  return static_cast<KV*>(kv.data) + (block * kv.chunk_tokens + offset) * kv.head_dim;
}

}  // namespace bolide
