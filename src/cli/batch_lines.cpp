#include "cli/batch_lines.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "core/error.h"
#include "core/messages.h"

namespace bolide {
namespace {

constexpr size_t kBlock = size_t{1} << 18;

int open_regular(const std::string& path) {
  // Without O_NONBLOCK, a pipe that nobody writes to would hold the program here.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) throw Error(fmt::format("cannot read {}: {}", in_quotes(path), std::strerror(errno)));
  struct stat status {};
  if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) return fd;
  close(fd);
  throw UsageError(fmt::format("{} is no regular file. A batch reads its input twice: write it to a file first", in_quotes(path)));
}

}  // namespace

BatchLines::BatchLines(const std::string& path, size_t longest) : path_(path), longest_(longest), fd_(open_regular(path)) {}

BatchLines::~BatchLines() { close(fd_); }

bool BatchLines::fill() {
  block_.resize(kBlock);
  at_ = 0;
  ssize_t n;
  do n = read(fd_, block_.data(), kBlock);
  while (n < 0 && errno == EINTR);
  const int reason = errno;
  block_.resize(n > 0 ? static_cast<size_t>(n) : 0);
  if (n < 0) throw Error(fmt::format("cannot read {}: {}", in_quotes(path_), std::strerror(reason)));
  return n > 0;
}

// One line, blank or not.
bool BatchLines::read_line(std::string& line) {
  line.clear();
  too_long_ = terminated_ = false;
  begin_ = end_;
  if (at_ == block_.size() && !fill()) return false;
  ++number_;
  do {
    const size_t feed = block_.find('\n', at_);
    terminated_ = feed != std::string::npos;
    const std::string_view part(block_.data() + at_, (terminated_ ? feed : block_.size()) - at_);
    digest_.add(part);
    end_ += static_cast<int64_t>(part.size()) + (terminated_ ? 1 : 0);
    at_ += part.size() + (terminated_ ? 1 : 0);
    if (line.size() + part.size() > longest_) too_long_ = true;
    if (too_long_)
      line.clear();
    else
      line += part;
  } while (!terminated_ && fill());
  digest_.add("\n");
  if (!line.empty() && line.back() == '\r') line.pop_back();
  // A byte order mark is no part of the first line.
  if (number_ == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
  return true;
}

bool BatchLines::next(std::string& line) {
  while (read_line(line)) {
    if (too_long_ || line.find_first_not_of(" \t\r\f\v") != std::string::npos) return true;
  }
  return false;
}

}  // namespace bolide
