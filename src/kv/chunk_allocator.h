// Ids of KV chunks with reference counts. Knows no bytes: the backend owns the memory behind an id.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace bolide {

using ChunkId = int32_t;

class ChunkAllocator {
 public:
  explicit ChunkAllocator(int chunks);

  // A chunk with one reference, or nothing when all are taken.
  std::optional<ChunkId> allocate();
  void retain(ChunkId id);
  void release(ChunkId id);  // the last release frees the chunk

  int total() const { return static_cast<int>(references_.size()); }
  int free() const { return static_cast<int>(free_.size()); }
  int references(ChunkId id) const { return references_.at(static_cast<size_t>(id)); }

  // free + used = all, no id free twice, none free with references. Throws an internal error otherwise.
  void check() const;

 private:
  std::vector<int> references_;
  std::vector<ChunkId> free_;  // taken from the back
};

}  // namespace bolide
