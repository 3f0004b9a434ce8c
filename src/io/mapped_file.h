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

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace bolide
