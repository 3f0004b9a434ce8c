// Where a prompt comes from, and how it becomes token ids.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/generate_options.h"
#include "text/tokenizer.h"

namespace bolide {

struct Prompt {
  std::optional<std::string> text;  // none when ids were given; encode_prompt puts the rendered conversation here
  std::vector<int32_t> ids;         // filled by encode_prompt when text was given
  std::optional<std::string> said;  // in a conversation: the user's own words
};

// Reads the prompt from the flag, file or standard input that the options name. Throws UsageError when there is none, Error when the
// bytes are not valid UTF-8 (with the offset).
Prompt read_prompt(const GenerateOptions& options);

// Turns the text into ids, through `chat` where there is one. Throws UsageError without a tokenizer, ModelError when the template fails.
void encode_prompt(Prompt& prompt, const GenerateOptions& options, const Tokenizer* tokenizer, const std::optional<ChatTemplate>& chat);

// With --truncate: cuts a prompt that leaves no room for output in `ctx_size` tokens, and says so in the log. Special tokens that the
// tokenizer adds are kept, and so is what a chat template writes. The output keeps max_tokens of the context where it was given and fits,
// else a quarter.
void truncate_prompt(Prompt& prompt, const GenerateOptions& options, const Tokenizer* tokenizer, int64_t ctx_size);

}  // namespace bolide
