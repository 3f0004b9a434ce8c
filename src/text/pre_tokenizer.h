// The "pre_tokenizer" node of tokenizer.json: cuts normalised text into the words that the model encodes one by one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_node.h"

namespace bolide {

// Bytes [begin, end) of PreTokenized::text.
struct Piece {
  uint32_t begin, end;
};

// Pieces lie in order, are not empty, and may leave out text that a pre-tokenizer removed.
struct PreTokenized {
  std::string text;  // valid UTF-8, at most `limit` bytes
  std::vector<Piece> pieces;
  size_t limit = 0;           // pre-tokenizers that let the text grow past it throw Error; see growth_limit
  bool starts_input = false;  // the text begins where the input begins

  std::string_view view(Piece piece) const { return std::string_view(text).substr(piece.begin, piece.end - piece.begin); }
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void apply(PreTokenized& pre) const = 0;
};

// Supported: Split, ByteLevel, Digits, Metaspace, Whitespace, WhitespaceSplit, Punctuation, CharDelimiterSplit, Sequence.
// Throws ModelError.
std::unique_ptr<PreTokenizer> parse_pre_tokenizer(const JsonNode& node);

}  // namespace bolide
