#include "cli/input_history.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "cli/log.h"
#include "core/error.h"
#include "core/files.h"

namespace bolide {
namespace {

constexpr size_t kRewriteAt = 2 * InputHistory::kEntries;  // lines that the file may hold before it is cut down

std::filesystem::path absolute_folder(const char* variable) {
  const char* value = std::getenv(variable);
  const std::filesystem::path path = value ? value : "";
  return path.is_absolute() ? path : std::filesystem::path();
}

}  // namespace

std::filesystem::path chat_history_path() {
  std::filesystem::path state = absolute_folder("XDG_STATE_HOME");
  if (state.empty()) {
    const std::filesystem::path home = absolute_folder("HOME");
    if (home.empty()) return {};
    state = home / ".local" / "state";
  }
  return state / "bolide" / "chat_history";
}

InputHistory::InputHistory(std::filesystem::path path) : path_(std::move(path)) {
  std::error_code problem;
  if (path_.empty() || !std::filesystem::exists(path_, problem)) return;
  try {
    std::istringstream lines(read_file(path_));
    for (std::string line; std::getline(lines, line);) {
      if (!line.empty()) entries_.push_back(line);
    }
    const bool long_file = entries_.size() > kRewriteAt;
    if (entries_.size() > kEntries) entries_.erase(entries_.begin(), entries_.end() - kEntries);
    if (long_file) write_file(path_, fmt::format("{}\n", fmt::join(entries_, "\n")));
  } catch (const Error& error) {
    warn(error.what());
  }
}

void InputHistory::add(const std::string& line) {
  entries_.push_back(line);
  if (entries_.size() > kEntries) entries_.erase(entries_.begin());
  if (path_.empty()) return;
  std::error_code problem;
  std::filesystem::create_directories(path_.parent_path(), problem);
  const int fd = open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return warn(fmt::format("cannot write {}: {}", path_.string(), std::strerror(errno)));
  const std::string bytes = line + "\n";
  const ssize_t written = write(fd, bytes.data(), bytes.size());  // one call: lines of several programs do not mix
  const int reason = errno;
  close(fd);
  if (written != static_cast<ssize_t>(bytes.size())) warn(fmt::format("cannot write {}: {}", path_.string(), std::strerror(reason)));
}

void InputHistory::warn(const std::string& reason) {
  log_warning("lines typed now are not kept for later sessions: {}. --no-history leaves the file alone", reason);
  path_.clear();
}

}  // namespace bolide
