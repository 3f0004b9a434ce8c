// Cutting a prompt that is too long, where the user asked for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace bolide {

// How many ids the tokenizer, or a chat template, put before and after those of the text alone. They are kept.
struct PromptFrame {
  size_t before = 0, after = 0;
};
// Nothing when the ids of `text` alone are not found in `ids`.
std::optional<PromptFrame> frame_of(const std::vector<int32_t>& ids, const std::string& text, const Tokenizer& tokenizer);

struct PromptCut {
  std::string side;  // "left", "right": where tokens are taken away; "" = nowhere
  int64_t ctx_size = 0;
  int64_t max_tokens = -1;  // of the output; without a limit, or with one that does not fit, a quarter of the context is kept for it

  // Whether a prompt of so many tokens leaves no room for output and is to be cut.
  bool needed(size_t tokens) const { return !side.empty() && static_cast<int64_t>(tokens) >= ctx_size; }
};
void cut_prompt(std::vector<int32_t>& ids, const PromptFrame& frame, const PromptCut& cut);

}  // namespace bolide
