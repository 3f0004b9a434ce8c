// A file mapped read-only. Move-only owner.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace bolide {

class MappedFile {
 public:
  // Throws ModelError naming the file and the system's reason. An empty file maps to an empty span.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  // Reading bytes that the file no longer has, as when somebody cuts it short, raises SIGBUS: see mapped_path_at.
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// The path of the mapped file that holds `address`, null if there is none. For a handler of SIGBUS: takes no lock and no memory. A process
// that has more than 256 files mapped is not told of the others.
const char* mapped_path_at(const void* address);

}  // namespace bolide
