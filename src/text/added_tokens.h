// Added tokens of tokenizer.json: found in the text before (or, with "normalized", after) the normalizer, never cut by the model.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/aho_corasick.h"
#include "text/json_node.h"
#include "text/normalizer.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace bolide {

struct AddedToken {
  std::string content;
  int32_t id = -1;
  bool special = false;      // skipped by decode(skip_special)
  bool single_word = false;  // only between characters that are no word characters
  bool lstrip = false;       // swallows the blanks before it
  bool rstrip = false;       // swallows the blanks after it
  bool normalized = false;   // searched in normalised text
};

// An element of "added_tokens", or a value of tokenizer_config.json's "added_tokens_decoder" (whose key is the id).
AddedToken parse_added_token(const JsonNode& node, int32_t id);

class AddedTokens {
 public:
  // A stretch of text: an added token (id >= 0) or text (id = -1).
  struct Segment {
    size_t begin, end;  // bytes
    int32_t id;
  };

  // Of tokens with equal content the last one counts. `normalizer` may be null.
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer* normalizer);

  // Cuts text; segments are not empty. `parse_special` false: special tokens are text like any other; so is every token that touches
  // `plain`.
  std::vector<Segment> cut_raw(std::string_view text, bool parse_special, std::span<const ByteRange> plain = {}) const {
    return raw_.cut(*this, text, parse_special, plain);
  }
  std::vector<Segment> cut_normalized(std::string_view text, bool parse_special) const {
    return normalized_.cut(*this, text, parse_special, {});
  }
  std::vector<AddedTokenName> names() const;
  // Whether the name of a token that is searched in normalised text stands in `text`.
  bool has_normalized(std::string_view text) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }
  bool is_special(int32_t id) const;

 private:
  struct Finder {
    AhoCorasick automaton;
    std::vector<size_t> tokens;  // pattern number -> index of the token
    std::vector<Segment> cut(const AddedTokens& all, std::string_view text, bool parse_special, std::span<const ByteRange> plain) const;
  };

  std::vector<AddedToken> tokens_;
  std::unordered_map<int32_t, size_t> by_id_;
  Vocabulary vocabulary_;
  Finder raw_, normalized_;
};

}  // namespace bolide
