#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "cpu/kernels.h"

namespace bolide {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

// Chunks of one layer lie side by side, so huge pages waste at most one page per layer. They are asked for only where that stays
// small beside the whole cache; elsewhere 4 KiB pages keep the resident size at what is used.
constexpr size_t kMaxHugePageWaste = size_t{64} << 20;

size_t checked_bytes(const KvCacheSpec& spec) {
  if (spec.layers <= 0 || spec.kv_heads <= 0 || spec.head_dim <= 0 || spec.chunk_tokens <= 0 || spec.chunks <= 0) {
    throw Error(fmt::format("KV cache of {} layers, {} heads, head size {}, {} chunks of {} tokens: every number must be at least 1",
                            spec.layers, spec.kv_heads, spec.head_dim, spec.chunks, spec.chunk_tokens));
  }
  size_t bytes = 2 * dtype_size(spec.dtype);
  for (int32_t factor : {spec.layers, spec.kv_heads, spec.head_dim, spec.chunk_tokens, spec.chunks}) {
    if (bytes > std::numeric_limits<size_t>::max() / 2 / static_cast<size_t>(factor)) {
      throw MemoryError("KV cache: the number of bytes overflows 64 bits. Use fewer tokens (--ctx-size, --max-num-seqs)");
    }
    bytes *= static_cast<size_t>(factor);
  }
  return bytes;
}

double gib(size_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

}  // namespace

CpuKvCache::CpuKvCache(const KvCacheSpec& spec) : spec_(spec), bytes_(checked_bytes(spec)) {
  const size_t physical = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const auto does_not_fit = [&](const std::string& reason) {
    return MemoryError(fmt::format(
        "KV cache of {} tokens needs {:.2f} GiB ({} bytes per token as {}), {}. Use fewer tokens (--ctx-size, "
        "--max-num-seqs) or --kv-cache-dtype bfloat16",
        static_cast<int64_t>(spec.chunks) * spec.chunk_tokens, gib(bytes_), spec.bytes_per_token(), dtype_name(spec.dtype), reason));
  };
  if (bytes_ > physical) throw does_not_fit(fmt::format("this machine has {:.2f} GiB of memory", gib(physical)));
  // NORESERVE: pages are taken when chunks are first written, whatever the system's overcommit heuristic says of the whole.
  void* mapped = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw does_not_fit(fmt::format("the system refused the mapping: {}", std::strerror(errno)));
  data_ = static_cast<std::byte*>(mapped);
  const size_t waste = kHugePage * static_cast<size_t>(spec.layers);
  const bool huge = waste <= kMaxHugePageWaste && waste <= bytes_ / 8;
  // Advice only: a kernel without transparent huge pages returns an error that changes nothing.
  (void)madvise(mapped, bytes_, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

CpuKvCache::~CpuKvCache() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

void* CpuKvCache::k(int32_t layer, int32_t chunk, int32_t kv_head) const {
  const size_t head_bytes = static_cast<size_t>(spec_.chunk_tokens) * static_cast<size_t>(spec_.head_dim) * dtype_size(spec_.dtype);
  const size_t index =
      (static_cast<size_t>(layer) * static_cast<size_t>(spec_.chunks) + static_cast<size_t>(chunk)) * static_cast<size_t>(spec_.kv_heads) +
      static_cast<size_t>(kv_head);
  return data_ + index * 2 * head_bytes;
}

void* CpuKvCache::v(int32_t layer, int32_t chunk, int32_t kv_head) const {
  const size_t head_bytes = static_cast<size_t>(spec_.chunk_tokens) * static_cast<size_t>(spec_.head_dim) * dtype_size(spec_.dtype);
  return static_cast<std::byte*>(k(layer, chunk, kv_head)) + head_bytes;
}

void CpuKvCache::copy(const ChunkCopy& copy) {
  const size_t bytes = static_cast<size_t>(copy.tokens) * static_cast<size_t>(spec_.head_dim) * dtype_size(spec_.dtype);
  for (int32_t layer = 0; layer < spec_.layers; ++layer) {
    for (int32_t head = 0; head < spec_.kv_heads; ++head) {
      std::memcpy(k(layer, copy.to, head), k(layer, copy.from, head), bytes);
      std::memcpy(v(layer, copy.to, head), v(layer, copy.from, head), bytes);
    }
  }
}

}  // namespace bolide
