// From a request to the token ids of its prompts.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cli/batch_request.h"
#include "cli/prompt_cut.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace bolide {

class PromptEncoder {
 public:
  // `chat`: none when the model has no template, which makes chats an error. `allow_special`: special
  // tokens that are written out in messages count as such. `truncate`: "" (a prompt that is too long is the engine's
  // error), left or right. The tokenizer must outlive the encoder.
  PromptEncoder(const Tokenizer& tokenizer, std::optional<ChatTemplate> chat, bool allow_special, int64_t ctx_size, std::string truncate)
      : tokenizer_(tokenizer), chat_(std::move(chat)), allow_special_(allow_special), ctx_size_(ctx_size), truncate_(std::move(truncate)) {}

  // One list per prompt; a chat has one. Throws FieldError, or what the template throws.
  std::vector<std::vector<int32_t>> encode(const BatchRequest& request);
  // The text that "echo" repeats.
  std::string echoed(const BatchPrompt& prompt) const;

  int64_t cut() const { return cut_; }  // prompts that were cut so far
  // Special tokens that were written out in messages, as seen so far (the first few).
  const std::set<std::string>& markers() const { return markers_; }

 private:
  std::vector<int32_t> encode_completion(const BatchPrompt& prompt, const BatchRequest& request) const;
  std::vector<int32_t> encode_chat(const BatchRequest& request);
  PromptFrame frame(const std::vector<int32_t>& ids, const BatchRequest& request, size_t index) const;

  const Tokenizer& tokenizer_;
  std::optional<ChatTemplate> chat_;
  bool allow_special_;
  int64_t ctx_size_;
  std::string truncate_;
  int64_t cut_ = 0;
  std::set<std::string> markers_;
};

}  // namespace bolide
