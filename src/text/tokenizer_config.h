// tokenizer_config.json beyond the two names that the room's header hands out.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "text/added_tokens.h"

namespace bolide {

struct TokenizerSettings {
  std::optional<std::string> eos_token, bos_token;
  std::vector<AddedToken> added_tokens;  // added_tokens_decoder, by id
  std::optional<bool> add_bos_token, add_eos_token, add_prefix_space, legacy;
};

// Nothing set when the folder has no tokenizer_config.json. Throws ModelError for a file of another form.
TokenizerSettings load_tokenizer_settings(const std::filesystem::path& folder);
// The same from text; `source` is the name used in messages.
TokenizerSettings parse_tokenizer_settings(const std::string& text, const std::string& source);

}  // namespace bolide
