#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "core/error.h"
#include "text/unicode.h"

namespace bolide {
namespace {

constexpr size_t kFew = 40;        // symbols up to which searching the whole word beats a heap
constexpr size_t kPartBytes = 48;  // words longer than this are cut where no merge can join
constexpr size_t kCacheWordBytes = 128;
constexpr size_t kMaxCacheSlots = 1 << 16;  // at most half full
constexpr uint32_t kEnd = UINT32_MAX;

char32_t first_character(std::string_view text) {
  size_t pos = 0;
  return next_code_point(text, pos);
}

char32_t last_character(std::string_view text) {
  size_t pos = previous_code_point(text, text.size());
  return next_code_point(text, pos);
}

}  // namespace

BpeModel::BpeModel(Vocabulary vocabulary, const MergeList& merges, BpeOptions options, const std::string& source)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)), table_(merges.size()), symbols_(1 << 16, -1), junctions_(1 << 14) {
  if (options_.unk_token) unk_id_ = vocabulary_.find(*options_.unk_token);
  for (int b = 0; b < 256; ++b) byte_ids_[b] = vocabulary_.find(fmt::format("<0x{:02X}>", b));
  vocabulary_.each([&](std::string_view token, int32_t id) {
    if (token.empty() || token.size() > 3) return;
    size_t pos = 0;
    const char32_t c = next_code_point(token, pos);
    if (pos == token.size() && c < symbols_.size()) symbols_[c] = id;
  });
  merged_.resize(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    const auto require = [&](std::string_view token) {
      const int32_t id = token.empty() ? -1 : vocabulary_.find(token);
      if (id < 0) {
        throw ModelError(fmt::format("{}: model.merges[{}] ('{}' and '{}') needs the token '{}', which model.vocab does not have", source,
                                     i, merges.left(i), merges.right(i), token));
      }
      return id;
    };
    // Vocabularies are mostly in the order of their merges; looking there first saves a search in memory at random.
    const int32_t guess = i > 0 ? merged_[i - 1] + 1 : -1;
    merged_[i] = guess >= 0 && vocabulary_.token(guess) == merges.both(i) ? guess : require(merges.both(i));
    table_.add(require(merges.left(i)), require(merges.right(i)), static_cast<uint32_t>(i));
    const uint64_t bit = junction_bit(last_character(merges.left(i)), first_character(merges.right(i)));
    junctions_[bit >> 6] |= uint64_t{1} << (bit & 63);
  }
}

BpeEncoder::BpeEncoder(const BpeModel& model, size_t text_bytes)
    : model_(model), cache_(std::bit_ceil(std::clamp<size_t>(text_bytes / 2, 16, kMaxCacheSlots))) {}

void BpeEncoder::encode(std::string_view word, std::vector<int32_t>& ids) {
  if (word.empty()) return;
  if (model_.options_.ignore_merges) {
    const int32_t id = model_.vocabulary_.find(word);
    if (id >= 0) return ids.push_back(id);
  }
  if (word.size() <= kPartBytes) return encode_part(word, ids);
  // Where two known characters meet that no merge joins, the word falls into parts that do not influence each other. This is what
  // makes text without a pre-tokenizer fast: its words are found here, and found again in the cache.
  size_t begin = 0;
  char32_t before = 0;
  bool before_known = false;
  for (size_t pos = 0; pos < word.size();) {
    const size_t at = pos;
    const char32_t c = next_code_point(word, pos);
    const bool known = model_.symbol(c, word.substr(at, pos - at)) >= 0;
    if (known && before_known && !model_.may_join(before, c)) {
      encode_part(word.substr(begin, at - begin), ids);
      begin = at;
    }
    before = c;
    before_known = known;
  }
  encode_part(word.substr(begin), ids);
}

void BpeEncoder::encode_part(std::string_view part, std::vector<int32_t>& ids) {
  const bool cachable = part.size() <= kCacheWordBytes;
  const uint64_t hash = cachable ? hash_bytes(part, hash_seed()) : 0;
  if (cachable && recall(part, hash, ids)) return;
  make_symbols(part);
  if (symbols_.size() > kFew) {
    merge_many();
  } else {
    merge_few();
  }
  ids.insert(ids.end(), symbols_.begin(), symbols_.end());
  if (cachable) remember(part, hash, symbols_.data(), symbols_.size());
}

void BpeEncoder::flush_unknown(bool& pending) {
  if (!pending) return;
  symbols_.push_back(model_.unk_id_);
  pending = false;
}

// The unknown token waits for the next known character, so that neighbours can fuse; byte tokens do not flush it.
void BpeEncoder::make_symbols(std::string_view part) {
  symbols_.clear();
  bool unknown_pending = false;
  for (size_t pos = 0; pos < part.size();) {
    const size_t at = pos;
    const char32_t c = next_code_point(part, pos);
    const std::string_view character = part.substr(at, pos - at);
    const int32_t id = model_.symbol(c, character);
    if (id >= 0) {
      flush_unknown(unknown_pending);
      symbols_.push_back(id);
      continue;
    }
    const auto byte_id = [&](char b) { return model_.byte_ids_[static_cast<unsigned char>(b)]; };
    if (model_.options_.byte_fallback && std::all_of(character.begin(), character.end(), [&](char b) { return byte_id(b) >= 0; })) {
      for (const char b : character) symbols_.push_back(byte_id(b));
      continue;
    }
    if (!model_.options_.unk_token) continue;
    if (model_.unk_id_ < 0) {
      throw Error(fmt::format("the character '{}' is not in the vocabulary, and neither is the tokenizer's unk_token '{}'", character,
                              *model_.options_.unk_token));
    }
    if (!model_.options_.fuse_unk) flush_unknown(unknown_pending);
    unknown_pending = true;
  }
  flush_unknown(unknown_pending);
}

// Merges the lowest rank first, the leftmost of equals, by looking at the whole word each time.
void BpeEncoder::merge_few() {
  ranks_.clear();
  for (size_t i = 0; i + 1 < symbols_.size(); ++i) ranks_.push_back(model_.table_.rank(symbols_[i], symbols_[i + 1]));
  while (!ranks_.empty()) {
    const auto best = std::min_element(ranks_.begin(), ranks_.end());
    if (*best == MergeTable::kNone) return;
    const auto i = static_cast<size_t>(best - ranks_.begin());
    symbols_[i] = model_.merged_[*best];
    symbols_.erase(symbols_.begin() + static_cast<ptrdiff_t>(i) + 1);
    ranks_.erase(best);
    if (i > 0) ranks_[i - 1] = model_.table_.rank(symbols_[i - 1], symbols_[i]);
    if (i < ranks_.size()) ranks_[i] = model_.table_.rank(symbols_[i], symbols_[i + 1]);
  }
}

// The same order by a heap over linked symbols. Entries whose pair has changed since are skipped.
void BpeEncoder::merge_many() {
  const size_t n = symbols_.size();
  BOLIDE_CHECK(n < kEnd);
  next_.resize(n);
  previous_.resize(n);
  heap_.clear();
  const auto key = [](uint32_t rank, size_t position) { return static_cast<uint64_t>(rank) << 32 | position; };
  for (size_t i = 0; i < n; ++i) {
    next_[i] = i + 1 < n ? static_cast<uint32_t>(i + 1) : kEnd;
    previous_[i] = i > 0 ? static_cast<uint32_t>(i - 1) : kEnd;
    const uint32_t rank = i + 1 < n ? model_.table_.rank(symbols_[i], symbols_[i + 1]) : MergeTable::kNone;
    if (rank != MergeTable::kNone) heap_.push_back(key(rank, i));
  }
  std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
  const auto push = [&](uint32_t left, uint32_t right) {
    const uint32_t rank = model_.table_.rank(symbols_[left], symbols_[right]);
    if (rank == MergeTable::kNone) return;
    heap_.push_back(key(rank, left));
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  };
  constexpr int32_t kGone = -1;
  while (!heap_.empty()) {
    const uint64_t top = heap_.front();
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    heap_.pop_back();
    const auto left = static_cast<uint32_t>(top);
    const auto rank = static_cast<uint32_t>(top >> 32);
    if (symbols_[left] == kGone || next_[left] == kEnd) continue;
    const uint32_t right = next_[left];
    if (model_.table_.rank(symbols_[left], symbols_[right]) != rank) continue;
    symbols_[left] = model_.merged_[rank];
    symbols_[right] = kGone;
    next_[left] = next_[right];
    if (next_[right] != kEnd) previous_[next_[right]] = left;
    if (previous_[left] != kEnd) push(previous_[left], left);
    if (next_[left] != kEnd) push(left, next_[left]);
  }
  std::erase(symbols_, kGone);
}

bool BpeEncoder::recall(std::string_view part, uint64_t hash, std::vector<int32_t>& ids) const {
  const size_t mask = cache_.size() - 1;
  for (size_t i = hash & mask; cache_[i].text_bytes != 0; i = (i + 1) & mask) {
    const CacheEntry& e = cache_[i];
    if (e.hash != hash || std::string_view(cache_text_).substr(e.text, e.text_bytes) != part) continue;
    ids.insert(ids.end(), cache_ids_.begin() + e.ids, cache_ids_.begin() + e.ids + e.id_count);
    return true;
  }
  return false;
}

// A full table stays as it is.
void BpeEncoder::remember(std::string_view part, uint64_t hash, const int32_t* ids, size_t count) {
  if (part.size() < 2 || cached_ >= cache_.size() / 2) return;
  const size_t mask = cache_.size() - 1;
  size_t i = hash & mask;
  while (cache_[i].text_bytes != 0) i = (i + 1) & mask;
  cache_[i] = {hash, static_cast<uint32_t>(cache_text_.size()), static_cast<uint32_t>(part.size()),
               static_cast<uint32_t>(cache_ids_.size()), static_cast<uint32_t>(count)};
  cache_text_.append(part);
  cache_ids_.insert(cache_ids_.end(), ids, ids + count);
  ++cached_;
}

}  // namespace bolide
