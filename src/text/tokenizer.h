// Text to token ids and back, as the checkpoint's own tokenizer files say.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bolide {

struct ByteRange {
  size_t begin, end;
};

// A token that is found in the text as it is written, never cut by the model.
struct AddedTokenName {
  std::string content;
  bool special;  // decode(skip_special) leaves it out
};

struct EncodeOptions {
  bool add_special = false;   // apply the post-processor's template (BOS, EOS)
  bool parse_special = true;  // special tokens written out in the text become their ids (Hugging Face's rule)
  // Bytes, in ascending order, that no added token may touch: what is written there is text like any other.
  std::span<const ByteRange> plain = {};
};

// Turns ids into text one at a time. The pieces, concatenated, equal Tokenizer::decode of all ids, and every piece is valid UTF-8:
// at most 3 bytes of an unfinished character are held back; bytes proven invalid become U+FFFD.
class StreamDecoder {
 public:
  virtual ~StreamDecoder() = default;
  virtual std::string push(int32_t id) = 0;
  virtual std::string finish() = 0;  // what was held back
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // `text` must be valid UTF-8; throws Error with the byte offset otherwise. Immutable and safe to call from several threads.
  virtual std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const = 0;
  // As Hugging Face's decode without clean-up; text/decoder.h says what becomes of byte tokens that are partly invalid. Unknown ids
  // throw Error naming the id and the vocabulary size.
  virtual std::string decode(std::span<const int32_t> ids, bool skip_special) const = 0;
  virtual std::unique_ptr<StreamDecoder> stream(bool skip_special) const = 0;

  virtual int32_t vocab_size() const = 0;                          // highest id with a token, plus one
  virtual std::optional<std::string> token(int32_t id) const = 0;  // as written in the vocabulary
  virtual std::optional<int32_t> find(std::string_view token) const = 0;
  virtual bool is_special(int32_t id) const = 0;
  virtual std::vector<AddedTokenName> added_tokens() const = 0;
  virtual std::string description() const = 0;  // "tokenizer.json (BPE, 151,669 tokens)"
};

// Reads tokenizer.json (preferred) or tokenizer.model of the folder, and tokenizer_config.json where present. Throws ModelError naming
// file, node and what is not supported. Returns null when the folder has neither file.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& folder);

// eos_token, bos_token of tokenizer_config.json (a string or {"content": ...}); nothing when absent or null.
struct TokenizerConfig {
  std::optional<std::string> eos_token, bos_token;
};
TokenizerConfig load_tokenizer_config(const std::filesystem::path& folder);

}  // namespace bolide
