#include "kv/chunk_allocator.h"

#include "core/error.h"

namespace bolide {

ChunkAllocator::ChunkAllocator(int chunks) : references_(static_cast<size_t>(chunks), 0) {
  free_.reserve(references_.size());
  for (int id = chunks - 1; id >= 0; --id) free_.push_back(id);
}

std::optional<ChunkId> ChunkAllocator::allocate() {
  if (free_.empty()) return std::nullopt;
  const ChunkId id = free_.back();
  free_.pop_back();
  references_[static_cast<size_t>(id)] = 1;
  return id;
}

void ChunkAllocator::retain(ChunkId id) {
  BOLIDE_CHECK(references_.at(static_cast<size_t>(id)) > 0);
  ++references_[static_cast<size_t>(id)];
}

void ChunkAllocator::release(ChunkId id) {
  BOLIDE_CHECK(references_.at(static_cast<size_t>(id)) > 0);
  if (--references_[static_cast<size_t>(id)] == 0) free_.push_back(id);
}

void ChunkAllocator::check() const {
  std::vector<bool> is_free(references_.size(), false);
  for (ChunkId id : free_) {
    BOLIDE_CHECK(!is_free.at(static_cast<size_t>(id)));
    is_free[static_cast<size_t>(id)] = true;
  }
  for (size_t i = 0; i < references_.size(); ++i) BOLIDE_CHECK(is_free[i] == (references_[i] == 0));
}

}  // namespace bolide
