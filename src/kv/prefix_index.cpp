#include "kv/prefix_index.h"

#include <algorithm>

#include "core/error.h"

namespace bolide {
namespace {

// FNV-1a over numbers, then a fold, because the map's buckets look at the low bits.
uint64_t hash_of(PrefixId before, std::span<const int32_t> tokens) {
  uint64_t h = 0xCBF29CE484222325u ^ before;
  for (const int32_t token : tokens) h = (h ^ static_cast<uint32_t>(token)) * 0x100000001B3u;
  return h ^ (h >> 32);
}

}  // namespace

std::optional<PrefixIndex::Found> PrefixIndex::find(PrefixId before, std::span<const int32_t> tokens) const {
  const auto [begin, end] = by_hash_.equal_range(hash_of(before, tokens));
  for (auto at = begin; at != end; ++at) {
    const Entry& entry = entries_[static_cast<size_t>(at->second)];
    if (entry.before == before && std::equal(tokens.begin(), tokens.end(), entry.tokens.begin(), entry.tokens.end()))
      return Found{at->second, entry.prefix};
  }
  return std::nullopt;
}

PrefixId PrefixIndex::insert(PrefixId before, std::span<const int32_t> tokens, ChunkId chunk) {
  BOLIDE_CHECK(!contains(chunk) && !tokens.empty());
  Entry& entry = entries_[static_cast<size_t>(chunk)];
  entry.before = before;
  entry.prefix = next_++;
  entry.hash = hash_of(before, tokens);
  entry.tokens.assign(tokens.begin(), tokens.end());
  by_hash_.emplace(entry.hash, chunk);
  return entry.prefix;
}

void PrefixIndex::erase(ChunkId chunk) {
  BOLIDE_CHECK(contains(chunk));
  Entry& entry = entries_[static_cast<size_t>(chunk)];
  const auto [begin, end] = by_hash_.equal_range(entry.hash);
  by_hash_.erase(std::find_if(begin, end, [&](const auto& item) { return item.second == chunk; }));
  entry = Entry();
}

}  // namespace bolide
