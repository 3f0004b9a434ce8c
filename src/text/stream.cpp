#include "text/stream.h"

#include <filesystem>

#include "core/error.h"

namespace bolide {
namespace {

std::string require_token(const Tokenizer& tokenizer, int32_t id) {
  std::optional<std::string> token = tokenizer.token(id);
  if (token) return std::move(*token);
  throw Error(fmt::format("token id {} has no token: the vocabulary of {} holds ids from 0 to {}", id, tokenizer.description(),
                          tokenizer.vocab_size() - 1));
}

class Stream : public StreamDecoder {
 public:
  Stream(const Tokenizer& tokenizer, const Decoder& decoder, bool skip_special)
      : tokenizer_(tokenizer), run_(decoder.start()), skip_special_(skip_special) {}

  std::string push(int32_t id) override {
    const std::string token = require_token(tokenizer_, id);
    std::string out;
    if (!skip_special_ || !tokenizer_.is_special(id)) run_.push(token, out);
    return out;
  }

  std::string finish() override {
    std::string out;
    run_.finish(out);
    return out;
  }

 private:
  const Tokenizer& tokenizer_;
  DecodeRun run_;
  bool skip_special_;
};

}  // namespace

std::string decode_all(const Tokenizer& tokenizer, const Decoder& decoder, std::span<const int32_t> ids, bool skip_special) {
  DecodeRun run = decoder.start();
  std::string out;
  for (const int32_t id : ids) {
    const std::string token = require_token(tokenizer, id);
    if (!skip_special || !tokenizer.is_special(id)) run.push(token, out);
  }
  run.finish(out);
  return out;
}

std::unique_ptr<StreamDecoder> make_stream(const Tokenizer& tokenizer, const Decoder& decoder, bool skip_special) {
  return std::make_unique<Stream>(tokenizer, decoder, skip_special);
}

std::string tokenizer_description(const std::string& source, const std::string& kind, int32_t tokens) {
  std::string digits = std::to_string(tokens);
  for (size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, 1, ',');
  return fmt::format("{} ({}, {} tokens)", std::filesystem::path(source).filename().string(), kind, digits);
}

}  // namespace bolide
