// The lines that a person typed, kept from one session to the next in a file that they alone can read.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace bolide {

class InputHistory {
 public:
  static constexpr size_t kEntries = 1000;

  // An empty path keeps nothing. A file that cannot be read or written costs a warning, once, and nothing else.
  explicit InputHistory(std::filesystem::path path);

  // Oldest first, kEntries at most.
  const std::vector<std::string>& entries() const { return entries_; }
  // Appends one line to the file, so that several programs can share it.
  void add(const std::string& line);

 private:
  void warn(const std::string& reason);
  std::filesystem::path path_;
  std::vector<std::string> entries_;
};

// XDG_STATE_HOME/bolide/chat_history, else ~/.local/state/bolide/chat_history (XDG Base Directory Specification 0.8); empty where neither
// folder can be told.
std::filesystem::path chat_history_path();

}  // namespace bolide
