#include "cli/folder_digest.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "core/digest.h"
#include "core/error.h"
#include "core/messages.h"

namespace bolide {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kWhole = uintmax_t{8} << 20;  // files up to this size are read whole
constexpr uintmax_t kSamples = 64;
constexpr size_t kSampleBytes = 4096;

bool belongs_to_model(const fs::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".json" || extension == ".jinja" || extension == ".model" || extension == ".safetensors";
}

void add_range(Digest& digest, std::FILE* file, uintmax_t offset, uintmax_t bytes) {
  std::vector<char> block(kSampleBytes);
  if (std::fseek(file, static_cast<long>(offset), SEEK_SET) != 0) return;
  while (bytes > 0) {
    const size_t n = std::fread(block.data(), 1, static_cast<size_t>(std::min<uintmax_t>(bytes, block.size())), file);
    if (n == 0) return;
    digest.add({block.data(), n});
    bytes -= n;
  }
}

void add_file(Digest& digest, const fs::path& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) throw Error(fmt::format("cannot read {}: {}", in_quotes(path.string()), std::strerror(errno)));
  const uintmax_t size = fs::file_size(path);
  digest.add_field(path.filename().string());
  digest.add(fmt::format("{}:", size));
  if (size <= kWhole) return add_range(digest, file.get(), 0, size);
  for (uintmax_t i = 0; i < kSamples; ++i) add_range(digest, file.get(), (size - kSampleBytes) / (kSamples - 1) * i, kSampleBytes);
}

}  // namespace

uint64_t folder_digest(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file() && belongs_to_model(entry.path())) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  Digest digest;
  for (const fs::path& file : files) add_file(digest, file);
  return digest.value();
}

}  // namespace bolide
