// Temporary folders and hand-made safetensors files for tests.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace bolide {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    static std::atomic<int> next{0};
    path_ = std::filesystem::temp_directory_path() / fmt::format("bolide-test-{}-{}", ::getpid(), next++);
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::string text() const { return path_.string(); }
  void write(const std::string& name, std::string_view bytes) const {
    std::filesystem::remove(path_ / name);  // a new file: the old one may still be mapped
    std::ofstream file(path_ / name, std::ios::binary);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

 private:
  std::filesystem::path path_;
};

// A safetensors file of any header and data.
inline std::string safetensors_bytes(std::string_view header, std::string_view data) {
  std::string file(8, '\0');
  for (size_t i = 0; i < 8; ++i) file[i] = static_cast<char>((static_cast<uint64_t>(header.size()) >> (8 * i)) & 0xff);
  file += header;
  file += data;
  return file;
}

inline std::span<const std::byte> as_bytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

struct TensorFile {
  std::string name;
  DType dtype;
  Shape shape;
  float first = 0.0f;  // element i is first + i / 64, exact in every dtype for small tensors
};

inline std::string encode(const TensorFile& tensor) {
  std::string bytes;
  for (int64_t i = 0; i < element_count(tensor.shape); ++i) {
    const float value = tensor.first + static_cast<float>(i % 64) / 64.0f;
    const uint16_t half = tensor.dtype == DType::f16 ? f32_to_f16(value) : f32_to_bf16(value);
    const void* at = tensor.dtype == DType::f32 ? static_cast<const void*>(&value) : static_cast<const void*>(&half);
    bytes.append(static_cast<const char*>(at), dtype_size(tensor.dtype));
  }
  return bytes;
}

// A valid file; `padding` spaces after the header shift the data.
inline std::string safetensors_file(const std::vector<TensorFile>& tensors, size_t padding = 0) {
  std::string header = R"({"__metadata__":{"format":"pt"})", data;
  for (const TensorFile& tensor : tensors) {
    const std::string bytes = encode(tensor);
    header += fmt::format(R"(,"{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", tensor.name, dtype_safetensors_name(tensor.dtype),
                          shape_text(tensor.shape), data.size(), data.size() + bytes.size());
    data += bytes;
  }
  return safetensors_bytes(header + "}" + std::string(padding, ' '), data);
}

}  // namespace bolide
