#include "core/files.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace bolide {

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

}  // namespace bolide
