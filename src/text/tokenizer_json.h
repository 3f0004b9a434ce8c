// Tokenizers from tokenizer.json, followed node by node; what is not supported is refused by name.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/added_tokens.h"
#include "text/tokenizer.h"

namespace bolide {

// `text` is the file's content, `source` its name in messages. `configured`: tokens of tokenizer_config.json, which count where
// tokenizer.json has no added token of that content. Throws ModelError.
std::unique_ptr<Tokenizer> parse_tokenizer_json(std::string_view text, const std::string& source,
                                                const std::vector<AddedToken>& configured);

}  // namespace bolide
