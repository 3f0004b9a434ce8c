// The "normalizer" node of tokenizer.json: what happens to text before it is cut into words.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "text/json_node.h"

namespace bolide {

// Bytes that a text may grow to in normalizers and pre-tokenizers: far above what any language needs, so that no file can fill the
// memory.
inline size_t growth_limit(size_t bytes) { return std::min<size_t>(bytes * 64 + (1 << 16), 1 << 30); }

struct NormalizedText {
  explicit NormalizedText(std::string raw) : text(std::move(raw)), limit(growth_limit(text.size())) {}
  std::string text;          // valid UTF-8
  bool front_intact = true;  // nothing was taken from the front; Metaspace's prepend_scheme "first" asks for it
  size_t limit;              // see growth_limit
};

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  // Throws Error when the text grows past its limit.
  virtual void apply(NormalizedText& text) const = 0;
};

// The longest text, in bytes, that is encoded.
constexpr size_t kMaxTextBytes = size_t{1} << 28;

// Supported: NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Prepend, Replace, ByteLevel, Sequence. Throws ModelError.
std::unique_ptr<Normalizer> parse_normalizer(const JsonNode& node);

}  // namespace bolide
