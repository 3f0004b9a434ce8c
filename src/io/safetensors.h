// The safetensors container: 8 bytes little-endian header length, a JSON header {name: {dtype, shape, data_offsets}},
// then the data. Format: https://github.com/huggingface/safetensors#format.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace bolide {

struct SafetensorsEntry {
  std::string dtype_name;  // as written; may be one that bolide does not compute with (I64, F8_E4M3, ...)
  Shape shape;
  size_t begin = 0, end = 0;  // absolute offsets in the file, validated: begin <= end <= file size
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry, std::less<>> tensors;
  std::map<std::string, std::string> metadata;
};

// Parses and validates untrusted bytes (the whole file): header length, JSON, shapes that overflow, offsets outside the
// file, size against dtype and shape, overlaps, holes, git-lfs pointers. `file_name` is used in messages.
// Problems are appended to `problems`, one line each; entries with a problem are left out.
SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& file_name,
                                    std::vector<std::string>& problems);

}  // namespace bolide
