#include "kv/chunk_allocator.h"

#include "core/error.h"

namespace bolide {

ChunkAllocator::ChunkAllocator(int chunks) : references_(static_cast<size_t>(chunks), 0), links_(static_cast<size_t>(chunks)) {
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
  BOLIDE_CHECK(references_.at(static_cast<size_t>(id)) > 0 || kept(id));
  if (references_[static_cast<size_t>(id)]++ == 0) remove_cached(id);
}

void ChunkAllocator::release(ChunkId id) {
  BOLIDE_CHECK(references_.at(static_cast<size_t>(id)) > 0);
  if (--references_[static_cast<size_t>(id)] > 0) return;
  if (kept(id))
    append_cached(id);
  else
    free_.push_back(id);
}

void ChunkAllocator::keep(ChunkId id) {
  BOLIDE_CHECK(references_.at(static_cast<size_t>(id)) > 0);
  link(id).kept = true;
}

void ChunkAllocator::forget(ChunkId id) {
  BOLIDE_CHECK(kept(id));
  if (references_.at(static_cast<size_t>(id)) == 0) {
    remove_cached(id);
    free_.push_back(id);
  }
  link(id).kept = false;
}

std::optional<ChunkId> ChunkAllocator::oldest_cached() const {
  if (oldest_ == kNone) return std::nullopt;
  return oldest_;
}

void ChunkAllocator::append_cached(ChunkId id) {
  link(id).older = newest_;
  link(id).newer = kNone;
  (newest_ == kNone ? oldest_ : link(newest_).newer) = id;
  newest_ = id;
  ++cached_;
}

void ChunkAllocator::remove_cached(ChunkId id) {
  const Link at = link(id);
  (at.older == kNone ? oldest_ : link(at.older).newer) = at.newer;
  (at.newer == kNone ? newest_ : link(at.newer).older) = at.older;
  --cached_;
}

void ChunkAllocator::check() const {
  enum State { used, free, cached };
  std::vector<State> states(references_.size(), used);
  for (const ChunkId id : free_) {
    BOLIDE_CHECK(states.at(static_cast<size_t>(id)) == used && !kept(id));
    states[static_cast<size_t>(id)] = State::free;
  }
  int listed = 0;
  for (ChunkId id = oldest_, before = kNone; id != kNone; before = id, id = links_[static_cast<size_t>(id)].newer) {
    BOLIDE_CHECK(states.at(static_cast<size_t>(id)) == used && kept(id) && links_[static_cast<size_t>(id)].older == before);
    states[static_cast<size_t>(id)] = cached;
    ++listed;
  }
  BOLIDE_CHECK(listed == cached_);
  for (size_t i = 0; i < references_.size(); ++i) BOLIDE_CHECK((states[i] == used) == (references_[i] > 0));
}

}  // namespace bolide
