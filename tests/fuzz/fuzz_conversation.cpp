// Any bytes as a saved conversation: either an Error, or a conversation that is saved and read again as it is.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "cli/chat_conversation.h"
#include "core/error.h"
#include "text/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  bolide::SavedConversation saved;
  try {
    saved = bolide::read_conversation(std::string(reinterpret_cast<const char*>(data), size));
  } catch (const bolide::Error& error) {
    if (std::string(error.what()).empty()) std::abort();
    return 0;
  }
  const auto& [conversation, model] = saved;
  const std::string text = bolide::conversation_text(conversation, model);
  if (bolide::first_invalid_utf8(text)) std::abort();
  const bolide::SavedConversation again = bolide::read_conversation(text);
  const size_t messages = 2 * conversation.turns.size() + (conversation.system ? 1 : 0);
  if (again.model != model || again.conversation.system != conversation.system) std::abort();
  if (conversation.messages().size() != messages || again.conversation.messages() != conversation.messages()) std::abort();
  return 0;
}
