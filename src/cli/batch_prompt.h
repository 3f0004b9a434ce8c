// From a request to the token ids of its prompts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/batch_request.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace bolide {

class PromptEncoder {
 public:
  // `chat`: none when the model has no template, which makes chats an error. `truncate`: "" (a prompt that is too long is the engine's
  // error), left or right. The tokenizer must outlive the encoder.
  PromptEncoder(const Tokenizer& tokenizer, std::optional<ChatTemplate> chat, int64_t ctx_size, std::string truncate)
      : tokenizer_(tokenizer), chat_(std::move(chat)), ctx_size_(ctx_size), truncate_(std::move(truncate)) {}

  // One list per prompt; a chat has one. Throws FieldError, or what the template throws.
  std::vector<std::vector<int32_t>> encode(const BatchRequest& request);
  // The text that "echo" repeats.
  std::string echoed(const BatchPrompt& prompt) const;

  int64_t cut() const { return cut_; }  // prompts that were cut so far

 private:
  std::vector<int32_t> encode_completion(const BatchPrompt& prompt, const BatchRequest& request) const;
  std::vector<int32_t> encode_chat(const BatchRequest& request) const;

  const Tokenizer& tokenizer_;
  std::optional<ChatTemplate> chat_;
  int64_t ctx_size_;
  std::string truncate_;
  int64_t cut_ = 0;
};

}  // namespace bolide
