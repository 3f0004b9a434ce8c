#include "cli/streams.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "core/error.h"

namespace bolide {
namespace {

constexpr size_t kBlock = size_t{1} << 16;

std::string shown(const std::string& path) { return path == "-" ? "standard input" : path; }

[[noreturn]] void throw_unreadable(const std::string& path, int reason) {
  throw Error(fmt::format("cannot read {}: {}", shown(path), std::strerror(reason)));
}

int open_input(const std::string& path) {
  if (path == "-") return STDIN_FILENO;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw_unreadable(path, errno);
  struct stat status {};
  if (fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
    close(fd);
    throw_unreadable(path, EISDIR);
  }
  return fd;
}

// 0 at the end of the input.
size_t read_block(const std::string& path, int fd, std::string& into) {
  const size_t old = into.size();
  into.resize(old + kBlock);
  ssize_t n;
  do n = read(fd, into.data() + old, kBlock);
  while (n < 0 && errno == EINTR);
  const int reason = errno;
  into.resize(old + static_cast<size_t>(n > 0 ? n : 0));
  if (n < 0) throw_unreadable(path, reason);
  return static_cast<size_t>(n);
}

}  // namespace

bool secure_standard_streams() {
  const bool output_open = fcntl(STDOUT_FILENO, F_GETFD) != -1;
  // open() returns the lowest free number, so going upwards fills exactly the closed ones.
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", O_RDWR) != fd) _exit(static_cast<int>(ExitCode::failed));
  }
  return output_open;
}

bool use_color(std::string_view when, int fd) {
  if (when == "always") return true;
  if (when == "never") return false;
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return isatty(fd) && !(no_color && *no_color) && !(term && std::string_view(term) == "dumb");
}

void ResultStream::write(std::string_view bytes) {
  if (failed()) return;
  buffer_ += bytes;
  if (buffer_.size() >= kBlock) flush();
}

void ResultStream::flush() {
  size_t done = 0;
  while (done < buffer_.size() && !failed()) {
    const ssize_t n = ::write(STDOUT_FILENO, buffer_.data() + done, buffer_.size() - done);
    if (n >= 0) {
      done += static_cast<size_t>(n);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd wait{STDOUT_FILENO, POLLOUT, 0};
      poll(&wait, 1, -1);
    } else if (errno != EINTR) {
      error_ = errno;
    }
  }
  buffer_.clear();
}

bool ResultStream::reader_gone() const { return error_ == EPIPE; }

void ResultStream::finish() {
  flush();
  if (failed() && !reader_gone()) throw Error(fmt::format("cannot write to standard output: {}", std::strerror(error_)));
}

std::string read_input(const std::string& path) {
  const int fd = open_input(path);
  std::string bytes;
  try {
    while (read_block(path, fd, bytes) > 0) {
      if (bytes.size() > kMaxInputBytes) throw Error(fmt::format("{} is larger than {} MiB", shown(path), kMaxInputBytes >> 20));
    }
  } catch (...) {
    if (fd != STDIN_FILENO) close(fd);
    throw;
  }
  if (fd != STDIN_FILENO) close(fd);
  return bytes;
}

LineReader::LineReader(const std::string& path) : path_(path), fd_(open_input(path)) {}

LineReader::~LineReader() {
  if (fd_ != STDIN_FILENO) close(fd_);
}

bool LineReader::fill() {
  if (ended_) return false;
  block_.clear();
  begin_ = 0;
  ended_ = read_block(path_, fd_, block_) == 0;
  return !ended_;
}

bool LineReader::next(std::string& line) {
  line.clear();
  if (drained() && !fill()) return false;
  ++number_;
  do {
    const size_t end = block_.find('\n', begin_);
    const size_t stop = end == std::string::npos ? block_.size() : end;
    line.append(block_, begin_, stop - begin_);
    begin_ = end == std::string::npos ? stop : end + 1;
    if (end != std::string::npos) break;
    if (line.size() > kMaxInputBytes)
      throw Error(fmt::format("{} line {} is longer than {} MiB", shown(path_), number_, kMaxInputBytes >> 20));
  } while (fill());
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return true;
}

}  // namespace bolide
