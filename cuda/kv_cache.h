// The KV cache on the device: one allocation, layout [layer][chunk][kv head][K, V][C][Dh] of spec().dtype, so that one head's K of a
// chunk is contiguous and its V follows. Address of a row: kv_row() in device/kv.cuh.
#pragma once

#include "cuda/context.h"
#include "cuda/memory.h"

namespace bolide {

class CudaKvCache final : public KvCache {
 public:
  // Throws Error for sizes below 1, MemoryError for what does not fit.
  CudaKvCache(const KvCacheSpec& spec, int device);
  const KvCacheSpec& spec() const override { return spec_; }
  KvView view() const { return {data_.data(), spec_.dtype, spec_.chunks, spec_.kv_heads, spec_.chunk_tokens, spec_.head_dim}; }

 private:
  KvCacheSpec spec_;
  mutable CudaBuffer data_;  // a const cache is still written through by kernels' views
};

}  // namespace bolide
