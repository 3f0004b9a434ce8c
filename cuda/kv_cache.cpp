#include "cuda/kv_cache.h"

#include <limits>

#include "core/error.h"

namespace bolide {
namespace {

// spec, after a check that its sizes make sense and that its bytes can be counted.
const KvCacheSpec& checked(const KvCacheSpec& spec) {
  if (spec.layers <= 0 || spec.kv_heads <= 0 || spec.head_dim <= 0 || spec.chunk_tokens <= 0 || spec.chunks <= 0) {
    throw Error(fmt::format("KV cache: {} layers, {} heads of size {}, {} chunks of {} tokens; each must be at least 1", spec.layers,
                            spec.kv_heads, spec.head_dim, spec.chunks, spec.chunk_tokens));
  }
  size_t bytes = 2 * dtype_size(spec.dtype);
  for (const int32_t factor : {spec.layers, spec.kv_heads, spec.head_dim, spec.chunk_tokens, spec.chunks}) {
    if (bytes > std::numeric_limits<size_t>::max() / static_cast<size_t>(factor))
      throw MemoryError("KV cache: more GiB than 64 bits can count. Use a smaller --ctx-size or --max-num-seqs");
    bytes *= static_cast<size_t>(factor);
  }
  return spec;
}

}  // namespace

CudaKvCache::CudaKvCache(const KvCacheSpec& spec, int device) : spec_(checked(spec)), data_(spec.bytes(), device, "the KV cache") {}

KvView kv_view(const KvCache& cache) { return static_cast<const CudaKvCache&>(cache).view(); }

}  // namespace bolide
