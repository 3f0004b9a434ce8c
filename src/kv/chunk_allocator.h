// Ids of KV chunks with reference counts. Knows no bytes: the backend owns the memory behind an id.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace bolide {

using ChunkId = int32_t;

// A chunk is free, used (it has references), or cached: nobody refers to it, but its contents are kept until its place is needed.
class ChunkAllocator {
 public:
  explicit ChunkAllocator(int chunks);

  // A free chunk, with one reference now, or nothing when none is free.
  std::optional<ChunkId> allocate();
  void retain(ChunkId id);   // a used chunk, or a cached one, which is used then
  void release(ChunkId id);  // after the last release the chunk is free, or cached where keep() said so

  void keep(ChunkId id);    // of a used chunk: it will be cached, not freed
  void forget(ChunkId id);  // undoes keep(); a cached chunk is free then
  // The cached chunk whose last release lies furthest back.
  std::optional<ChunkId> oldest_cached() const;

  int total() const { return static_cast<int>(references_.size()); }
  int free() const { return static_cast<int>(free_.size()); }
  int cached() const { return cached_; }
  int references(ChunkId id) const { return references_.at(static_cast<size_t>(id)); }
  bool kept(ChunkId id) const { return links_.at(static_cast<size_t>(id)).kept; }

  // free + cached + used = all, no id in two states. Throws an internal error otherwise.
  void check() const;

 private:
  static constexpr ChunkId kNone = -1;
  // The cached chunks form a list in the order of their release.
  struct Link {
    ChunkId older = kNone, newer = kNone;
    bool kept = false;
  };
  Link& link(ChunkId id) { return links_.at(static_cast<size_t>(id)); }
  void append_cached(ChunkId id);
  void remove_cached(ChunkId id);

  std::vector<int> references_;
  std::vector<ChunkId> free_;  // taken from the back
  std::vector<Link> links_;
  ChunkId oldest_ = kNone, newest_ = kNone;
  int cached_ = 0;
};

}  // namespace bolide
