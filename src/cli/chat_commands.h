// The commands of a conversation: /help, /clear, /save and the like.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "cli/chat_session.h"

namespace bolide {

// A conversation on a terminal, as the commands see it.
struct ChatRoom {
  ChatSession& session;
  ChatScreen& screen;
  SignalQueue& signals;
  bool stats = false;
  std::optional<std::filesystem::path> file;  // that /save wrote or /load read last
};

enum class ChatNext { go_on, leave, terminate };

// Runs "/name arguments". Throws UsageError for a command that is none, with the nearest one, Error where a command cannot do its work; the
// conversation is then as it was.
ChatNext run_chat_command(ChatRoom& room, const std::string& line);

// Streams an answer to `question`, the last one anew where there is none, and says what it cost where that is wanted.
ChatNext answer_in(ChatRoom& room, const std::string* question);

}  // namespace bolide
