// A conversation as token ids: the template's own markers are special tokens, the same markers typed by somebody are text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace bolide {

struct ChatPrompt {
  std::string text;                  // as the template renders it
  std::vector<int32_t> ids;          // nothing is added: a template writes its own BOS
  std::vector<std::string> markers;  // special tokens, and tokens that the template writes, which stand in the messages' texts
};

// `allow_special`: markers in messages count as tokens, as transformers and vLLM have it. Otherwise they are encoded as text; only in an
// assistant's own messages, tokens that are not special (<think>, <tool_call>) stay the tokens that the model wrote. Throws as
// ChatTemplate::render does, and Error when the template itself looks at a marker, so that it cannot be kept as text.
ChatPrompt encode_chat(const ChatTemplate& chat, const Tokenizer& tokenizer, const nlohmann::ordered_json& messages,
                       const nlohmann::ordered_json& kwargs, bool allow_special);

}  // namespace bolide
