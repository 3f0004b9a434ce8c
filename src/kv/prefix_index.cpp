#include "kv/prefix_index.h"

#include <algorithm>
#include <iterator>

#include "core/error.h"

namespace bolide {
namespace {

// FNV-1a over numbers, then a fold, because the map's buckets look at the low bits.
uint64_t hash_of(PrefixId before, std::span<const int32_t> tokens) {
  uint64_t h = 0xCBF29CE484222325u ^ before;
  for (const int32_t token : tokens) h = (h ^ static_cast<uint32_t>(token)) * 0x100000001B3u;
  return h ^ (h >> 32);
}

size_t common_beginning(std::span<const int32_t> a, std::span<const int32_t> b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

bool PrefixIndex::Key::operator<(const Key& other) const {
  if (before != other.before) return before < other.before;
  const size_t common = common_beginning(tokens, other.tokens);
  if (common < tokens.size() && common < other.tokens.size()) return tokens[common] < other.tokens[common];
  return tokens.size() != other.tokens.size() ? tokens.size() < other.tokens.size() : chunk < other.chunk;
}

std::optional<PrefixIndex::Found> PrefixIndex::find(PrefixId before, std::span<const int32_t> tokens) const {
  const auto [begin, end] = by_hash_.equal_range(hash_of(before, tokens));
  for (auto at = begin; at != end; ++at) {
    const Entry& entry = entries_[static_cast<size_t>(at->second)];
    if (entry.before == before && std::equal(tokens.begin(), tokens.end(), entry.tokens.begin(), entry.tokens.end()))
      return Found{at->second, entry.prefix};
  }
  return std::nullopt;
}

// In an ordered list, what has most in common with the tokens lies next to their place, and going away from it has ever less.
std::optional<PrefixIndex::Part> PrefixIndex::find_part(PrefixId before, std::span<const int32_t> tokens,
                                                        const std::function<bool(ChunkId)>& usable) const {
  std::optional<Part> best;
  const auto go_on = [&](const Key& key) {
    if (key.before != before) return false;
    const auto common = static_cast<int32_t>(common_beginning(key.tokens, tokens));
    if (common <= (best ? best->tokens : 0)) return false;
    if (!usable(key.chunk)) return true;
    best = Part{key.chunk, common, static_cast<size_t>(common) == key.tokens.size()};
    return false;
  };
  const auto place = list_.lower_bound(Key{before, tokens, -1});
  for (auto at = place; at != list_.end() && go_on(*at);) ++at;
  for (auto at = place; at != list_.begin() && go_on(*std::prev(at));) --at;
  return best;
}

PrefixIndex::Entry& PrefixIndex::list(PrefixId before, std::span<const int32_t> tokens, ChunkId chunk) {
  BOLIDE_CHECK(entry(chunk).prefix == kEmptyPrefix && !tokens.empty());
  if (contains(chunk)) erase(chunk);
  Entry& entry = entries_[static_cast<size_t>(chunk)];
  entry.before = before;
  entry.tokens.assign(tokens.begin(), tokens.end());
  list_.insert(Key{before, entry.tokens, chunk});
  return entry;
}

PrefixId PrefixIndex::insert(PrefixId before, std::span<const int32_t> tokens, ChunkId chunk) {
  Entry& entry = list(before, tokens, chunk);
  entry.prefix = next_++;
  entry.hash = hash_of(before, tokens);
  by_hash_.emplace(entry.hash, chunk);
  return entry.prefix;
}

void PrefixIndex::insert_part(PrefixId before, std::span<const int32_t> tokens, ChunkId chunk) { list(before, tokens, chunk); }

void PrefixIndex::erase(ChunkId chunk) {
  BOLIDE_CHECK(contains(chunk));
  Entry& entry = entries_[static_cast<size_t>(chunk)];
  list_.erase(Key{entry.before, entry.tokens, chunk});
  if (entry.prefix != kEmptyPrefix) {
    const auto [begin, end] = by_hash_.equal_range(entry.hash);
    by_hash_.erase(std::find_if(begin, end, [&](const auto& item) { return item.second == chunk; }));
  }
  entry = Entry();
}

void PrefixIndex::check() const {
  size_t known = 0, full = 0;
  for (const Entry& entry : entries_) {
    known += entry.tokens.empty() ? 0 : 1;
    full += entry.prefix == kEmptyPrefix ? 0 : 1;
    BOLIDE_CHECK(entry.prefix == kEmptyPrefix || !entry.tokens.empty());
  }
  BOLIDE_CHECK(known == list_.size() && full == by_hash_.size() && std::is_sorted(list_.begin(), list_.end()));
  for (const Key& key : list_) {
    const Entry& entry = this->entry(key.chunk);
    BOLIDE_CHECK(key.before == entry.before && key.tokens.data() == entry.tokens.data() && key.tokens.size() == entry.tokens.size());
  }
}

}  // namespace bolide
