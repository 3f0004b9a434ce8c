// The chunks of the KV cache as the scheduler takes and gives them back: free ones first, then cached ones, the least recently used first.
#pragma once

#include <optional>
#include <span>

#include "kv/chunk_allocator.h"
#include "kv/prefix_index.h"

namespace bolide {

class ChunkPool {
 public:
  // `most_cached`: chunks that are kept after their last sequence has gone; further ones are freed, the oldest first.
  ChunkPool(int chunks, int most_cached) : allocator_(chunks), index_(chunks), most_cached_(most_cached) {}

  // A chunk for one sequence, its contents undefined; nothing when all are in use.
  std::optional<ChunkId> take();
  // The ends of prefixes are given up before their beginnings: the last of `chunks` first.
  void give_back(std::span<const ChunkId> chunks);
  void give_back(ChunkId chunk) { give_back(std::span(&chunk, 1)); }

  std::optional<PrefixIndex::Found> find(PrefixId before, std::span<const int32_t> tokens) const { return index_.find(before, tokens); }
  std::optional<PrefixIndex::Part> find_part(PrefixId before, std::span<const int32_t> tokens,
                                             const std::function<bool(ChunkId)>& usable) const {
    return index_.find_part(before, tokens, usable);
  }
  // One more sequence uses a chunk that find() or find_part() named. What is known of its contents may only be read.
  void share(ChunkId chunk) { allocator_.retain(chunk); }
  // The chunk, in use and full, can be found by its tokens from now on.
  PrefixId publish(PrefixId before, std::span<const int32_t> tokens, ChunkId chunk);
  // The same of a chunk, in use, that is not full of known tokens yet.
  void publish_part(PrefixId before, std::span<const int32_t> tokens, ChunkId chunk);
  // The chunk, in use, is not found any more.
  void retract(ChunkId chunk);

  int total() const { return allocator_.total(); }
  int available() const { return allocator_.free() + allocator_.cached(); }  // for take()
  int cached() const { return allocator_.cached(); }
  int references(ChunkId chunk) const { return allocator_.references(chunk); }
  // free + cached + used = all; a chunk is kept if and only if it can be found. Throws an internal error otherwise.
  void check() const;

 private:
  bool drop_oldest();

  ChunkAllocator allocator_;
  PrefixIndex index_;
  int most_cached_;
};

}  // namespace bolide
