#include "core/files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <system_error>

namespace bolide {
namespace {

// 0, or the reason why not all of it reached the disk.
int write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno != EINTR) return errno;
    if (n > 0) bytes.remove_prefix(static_cast<size_t>(n));
  }
  return fsync(fd) == 0 ? 0 : errno;
}

}  // namespace

std::string read_file(const std::filesystem::path& path, ExitCode code) {
  const auto fail = [&](int reason) -> Error {
    return Error(fmt::format("cannot read {}: {}", path.string(), std::strerror(reason)), code);
  };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) throw fail(errno);
  std::string text;
  char block[1 << 16];
  size_t n;
  while ((n = std::fread(block, 1, sizeof block, file.get())) > 0) text.append(block, n);
  if (std::ferror(file.get())) throw fail(errno ? errno : EIO);
  return text;
}

void write_file(const std::filesystem::path& path, std::string_view bytes) {
  const auto fail = [&](int reason) { return Error(fmt::format("cannot write {}: {}", path.string(), std::strerror(reason))); };
  std::error_code ignored;
  std::filesystem::path target = std::filesystem::canonical(path, ignored);
  if (target.empty()) target = path;
  std::string temporary = target.string() + ".XXXXXX";
  const int fd = mkstemp(temporary.data());
  if (fd < 0) throw fail(errno);
  struct stat old {};
  if (stat(target.c_str(), &old) == 0) fchmod(fd, old.st_mode & 07777);
  int reason = write_all(fd, bytes);
  if (close(fd) != 0 && reason == 0) reason = errno;
  if (reason == 0 && rename(temporary.c_str(), target.c_str()) != 0) reason = errno;
  if (reason != 0) {
    unlink(temporary.c_str());
    throw fail(reason);
  }
}

}  // namespace bolide
