// Cutting a prompt that is too long, where the user asked for it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace bolide {

struct PromptCut {
  std::string side;  // "left", "right": where tokens are taken away; "" = nowhere
  int64_t ctx_size = 0;
  int64_t max_tokens = -1;   // of the output; without a limit, or with one that does not fit, a quarter of the context is kept for it
  bool add_special = false;  // the ids were encoded so; special tokens that the tokenizer put around the text are kept
  bool in_template = false;  // the text is what a user says inside a chat template, which is kept
};

// Cuts ids that leave no room for output; true if it did. `text`: what they were encoded from, none when they were given as ids. Throws Error
// where the text cannot be told from the chat template around it.
bool cut_prompt(std::vector<int32_t>& ids, const std::optional<std::string>& text, const Tokenizer* tokenizer, const PromptCut& cut);

}  // namespace bolide
