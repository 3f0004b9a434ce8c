// Which chunks hold the keys and values of which tokens, so that sequences that begin alike compute them once.
//
// A prefix is a chain of full chunks: each is found by the prefix before it and its own C tokens (the chained block hashes of vLLM's
// automatic prefix caching; Kwon et al., arXiv:2309.06180, share blocks in the same way). The hash only finds candidates: tokens and
// prefix are compared, so no collision can ever hand a sequence the keys and values of another text. Where the chain ends, a chunk
// that begins alike is found in an ordered list (the edges of a radix tree, Zheng et al., "SGLang", arXiv:2312.07104): its first
// tokens can be copied.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
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
  PrefixIndex(const PrefixIndex&) = delete;  // the list's keys point into the entries
  PrefixIndex& operator=(const PrefixIndex&) = delete;

  struct Found {
    ChunkId chunk;
    PrefixId prefix;  // with that chunk's tokens
  };
  // The full chunk that holds `tokens` after `before`, if there is one.
  std::optional<Found> find(PrefixId before, std::span<const int32_t> tokens) const;
  struct Part {
    ChunkId chunk;
    int32_t tokens;  // the first ones of the chunk, at least one, that are the first ones looked for
    bool whole;      // the index knows no more tokens of it than these
  };
  // Of the chunks after `before`, full or not, that `usable` accepts, one that has most of its first tokens in common with `tokens`.
  std::optional<Part> find_part(PrefixId before, std::span<const int32_t> tokens, const std::function<bool(ChunkId)>& usable) const;

  // `chunk` is full of `tokens` after `before` from now on; there is no other one that is. What was known of a part of it is replaced.
  PrefixId insert(PrefixId before, std::span<const int32_t> tokens, ChunkId chunk);
  // `chunk`, which is not known to be full, begins with `tokens` after `before`; others may, too. Replaces what was known of it.
  void insert_part(PrefixId before, std::span<const int32_t> tokens, ChunkId chunk);
  void erase(ChunkId chunk);

  bool contains(ChunkId chunk) const { return !entry(chunk).tokens.empty(); }
  size_t size() const { return list_.size(); }
  // The list holds the entries and nothing else, the hash map the full ones. Throws an internal error otherwise.
  void check() const;

 private:
  struct Entry {
    PrefixId before = kEmptyPrefix, prefix = kEmptyPrefix;  // prefix: kEmptyPrefix when the chunk is not known to be full
    uint64_t hash = 0;                                      // of a full one
    std::vector<int32_t> tokens;                            // [C] or fewer; none when the chunk is not in the index
  };
  struct Key {
    PrefixId before;
    std::span<const int32_t> tokens;  // the entry's
    ChunkId chunk;
    bool operator<(const Key& other) const;
  };
  const Entry& entry(ChunkId chunk) const { return entries_.at(static_cast<size_t>(chunk)); }
  Entry& list(PrefixId before, std::span<const int32_t> tokens, ChunkId chunk);

  std::vector<Entry> entries_;                          // by chunk
  std::unordered_multimap<uint64_t, ChunkId> by_hash_;  // full ones
  std::set<Key> list_;                                  // all
  PrefixId next_ = kEmptyPrefix + 1;
};

}  // namespace bolide
