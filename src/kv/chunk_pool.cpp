#include "kv/chunk_pool.h"

#include "core/error.h"

namespace bolide {

std::optional<ChunkId> ChunkPool::take() {
  const std::optional<ChunkId> chunk = allocator_.allocate();
  if (chunk || !drop_oldest()) return chunk;
  return allocator_.allocate();
}

bool ChunkPool::drop_oldest() {
  const std::optional<ChunkId> oldest = allocator_.oldest_cached();
  if (!oldest) return false;
  index_.erase(*oldest);
  allocator_.forget(*oldest);
  return true;
}

void ChunkPool::give_back(std::span<const ChunkId> chunks) {
  for (auto at = chunks.rbegin(); at != chunks.rend(); ++at) allocator_.release(*at);
  while (allocator_.cached() > most_cached_) drop_oldest();
}

PrefixId ChunkPool::publish(PrefixId before, std::span<const int32_t> tokens, ChunkId chunk) {
  allocator_.keep(chunk);
  return index_.insert(before, tokens, chunk);
}

void ChunkPool::publish_part(PrefixId before, std::span<const int32_t> tokens, ChunkId chunk) {
  allocator_.keep(chunk);
  index_.insert_part(before, tokens, chunk);
}

void ChunkPool::retract(ChunkId chunk) {
  BOLIDE_CHECK(allocator_.references(chunk) > 0);
  if (!index_.contains(chunk)) return;
  index_.erase(chunk);
  allocator_.forget(chunk);
}

void ChunkPool::check() const {
  allocator_.check();
  index_.check();
  size_t kept = 0;
  for (ChunkId chunk = 0; chunk < allocator_.total(); ++chunk) {
    BOLIDE_CHECK(allocator_.kept(chunk) == index_.contains(chunk));
    kept += allocator_.kept(chunk) ? 1 : 0;
  }
  BOLIDE_CHECK(kept == index_.size() && allocator_.cached() <= most_cached_);
}

}  // namespace bolide
