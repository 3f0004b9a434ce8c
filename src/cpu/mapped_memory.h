// Anonymous memory in whole pages, large ones where the kernel has them: fewer address translations for buffers of many megabytes.
#pragma once

#include <cstddef>

namespace bolide {

class MappedMemory {
 public:
  explicit MappedMemory(size_t bytes);  // zero-filled when first touched; throws MemoryError
  ~MappedMemory();
  MappedMemory(const MappedMemory&) = delete;
  MappedMemory& operator=(const MappedMemory&) = delete;

  std::byte* data() const { return data_; }  // page-aligned
  size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace bolide
