// Byte-pair encoding as tokenizer.json's model "BPE" defines it (Sennrich et al., arXiv:1508.07909; the rules for unknown characters,
// byte fallback and ties are those of the Hugging Face `tokenizers` library). O(n log n) for a word of n characters.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/merge_table.h"
#include "text/vocabulary.h"

namespace bolide {

// One line of "merges", in the order of the file.
class MergeList {
 public:
  void add(std::string_view left, std::string_view right) {
    text_.append(left).append(right);
    ends_.push_back({text_.size() - right.size(), text_.size()});
  }
  size_t size() const { return ends_.size(); }
  std::string_view left(size_t i) const { return slice(begin(i), ends_[i].left); }
  std::string_view right(size_t i) const { return slice(ends_[i].left, ends_[i].both); }
  std::string_view both(size_t i) const { return slice(begin(i), ends_[i].both); }

 private:
  struct Ends {
    size_t left, both;
  };
  size_t begin(size_t i) const { return i == 0 ? 0 : ends_[i - 1].both; }
  std::string_view slice(size_t begin, size_t end) const { return std::string_view(text_).substr(begin, end - begin); }
  std::string text_;
  std::vector<Ends> ends_;
};

struct BpeOptions {
  std::optional<std::string> unk_token;  // stands for characters outside the vocabulary; without it they vanish
  bool fuse_unk = false;                 // neighbouring unknown characters become one unk_token
  bool byte_fallback = false;            // unknown characters become their bytes <0x00> ... <0xFF>, where all are in the vocabulary
  bool ignore_merges = false;            // a word that is a token needs no merges
};

class BpeModel {
 public:
  // Throws ModelError, naming `source`, for a merge of tokens that the vocabulary lacks.
  BpeModel(Vocabulary vocabulary, const MergeList& merges, BpeOptions options, const std::string& source);

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  friend class BpeEncoder;

  // True unless no merge can ever join a symbol that ends in `left` with one that begins with `right`.
  bool may_join(char32_t left, char32_t right) const {
    const uint64_t bit = junction_bit(left, right);
    return (junctions_[bit >> 6] >> (bit & 63) & 1) != 0;
  }
  static uint64_t junction_bit(char32_t left, char32_t right) {
    return hash_mix(static_cast<uint64_t>(left) << 32 | right, 0x9E3779B97F4A7C15u) >> 44;  // 20 bits
  }
  // Id of a single character, -1 outside the vocabulary.
  int32_t symbol(char32_t c, std::string_view text) const { return c < symbols_.size() ? symbols_[c] : vocabulary_.find(text); }

  Vocabulary vocabulary_;
  BpeOptions options_;
  int32_t unk_id_ = -1;
  int32_t byte_ids_[256];
  MergeTable table_;
  std::vector<int32_t> merged_;      // [merges] id that each merge makes
  std::vector<int32_t> symbols_;     // [65536] ids of the characters of the Basic Multilingual Plane
  std::vector<uint64_t> junctions_;  // [2^20 bits] a Bloom filter of (last character, first character) over all merges
};

// Encodes words one after the other with scratch memory and a bounded memory of words seen: one per encode() call.
class BpeEncoder {
 public:
  // `text_bytes`: about how much text will come, which bounds the memory of words.
  BpeEncoder(const BpeModel& model, size_t text_bytes);

  // Appends the ids of a word (valid UTF-8).
  void encode(std::string_view word, std::vector<int32_t>& ids);

 private:
  void encode_part(std::string_view part, std::vector<int32_t>& ids);
  void make_symbols(std::string_view part);
  void merge_few();
  void merge_many();
  void flush_unknown(bool& pending);

  struct CacheEntry {
    uint64_t hash = 0;
    uint32_t text = 0, text_bytes = 0;  // text_bytes = 0: free
    uint32_t ids = 0, id_count = 0;
  };
  bool recall(std::string_view part, uint64_t hash, std::vector<int32_t>& ids) const;
  void remember(std::string_view part, uint64_t hash, const int32_t* ids, size_t count);

  const BpeModel& model_;
  std::vector<int32_t> symbols_;           // the word while it is being merged
  std::vector<uint32_t> ranks_;            // merge_few: rank of (i, i + 1)
  std::vector<uint32_t> next_, previous_;  // merge_many: neighbours
  std::vector<uint64_t> heap_;             // merge_many: rank << 32 | position, lowest first
  std::vector<CacheEntry> cache_;
  size_t cached_ = 0;
  std::string cache_text_;
  std::vector<int32_t> cache_ids_;
};

}  // namespace bolide
