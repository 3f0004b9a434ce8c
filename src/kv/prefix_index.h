// Which full chunks hold the keys and values of which tokens, so that sequences that begin alike compute them once.
//
// A prefix is a chain of full chunks: each is found by the prefix before it and its own C tokens (the chained block hashes of vLLM's
// automatic prefix caching; Kwon et al., arXiv:2309.06180, share blocks in the same way). The hash only finds candidates: tokens and
// prefix are compared, so no collision can ever hand a sequence the keys and values of another text.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "kv/chunk_allocator.h"

namespace bolide {

// A prefix that the index has met. Numbers are never used again: what hung on a prefix that is gone is not found any more.
using PrefixId = uint64_t;
constexpr PrefixId kEmptyPrefix = 0;

class PrefixIndex {
 public:
  explicit PrefixIndex(int chunks) : entries_(static_cast<size_t>(chunks)) {}

  struct Found {
    ChunkId chunk;
    PrefixId prefix;  // with that chunk's tokens
  };
  // The chunk that holds `tokens` after `before`, if there is one.
  std::optional<Found> find(PrefixId before, std::span<const int32_t> tokens) const;
  // `chunk` holds `tokens` after `before` from now on; there is no other one that does.
  PrefixId insert(PrefixId before, std::span<const int32_t> tokens, ChunkId chunk);
  void erase(ChunkId chunk);
  bool contains(ChunkId chunk) const { return entries_.at(static_cast<size_t>(chunk)).prefix != kEmptyPrefix; }
  size_t size() const { return by_hash_.size(); }

 private:
  struct Entry {
    PrefixId before = kEmptyPrefix, prefix = kEmptyPrefix;  // prefix: kEmptyPrefix when the chunk is not in the index
    uint64_t hash = 0;
    std::vector<int32_t> tokens;  // [C]
  };
  std::vector<Entry> entries_;  // by chunk
  std::unordered_multimap<uint64_t, ChunkId> by_hash_;
  PrefixId next_ = kEmptyPrefix + 1;
};

}  // namespace bolide
