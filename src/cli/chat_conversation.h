// A conversation of `bolide chat`: an optional system message, then questions and answers in turn; and the file that keeps one.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cli/json.h"

namespace bolide {

struct ChatTurn {
  std::string question, answer;
};

struct Conversation {
  std::optional<std::string> system;
  std::vector<ChatTurn> turns;

  // As templates take them: [{"role", "content"}, ...]. With `question`, a user's message that has no answer yet follows.
  Json messages(const std::string* question = nullptr) const;
};

// {"format": "bolide-conversation", "version": 1, "model": ..., "messages": [...]}; additions to it raise the version.
constexpr int kConversationVersion = 1;

struct SavedConversation {
  Conversation conversation;
  std::string model;  // as it was named when it was saved
};

// What a file of the conversation holds, and what such a text says. Reading throws Error that says what is wrong with it.
std::string conversation_text(const Conversation& conversation, const std::string& model);
SavedConversation read_conversation(const std::string& text);

// Replaces the file as a whole. Throws Error.
void save_conversation(const std::filesystem::path& path, const Conversation& conversation, const std::string& model);

// Throws Error that names the file and what is wrong with it: no JSON, another format, a newer version, an unknown key, messages that are
// not an optional system message and then a user's and an assistant's in turn.
SavedConversation load_conversation(const std::filesystem::path& path);

}  // namespace bolide
