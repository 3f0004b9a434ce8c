// Any bytes as a safetensors file and as a shard index: what parses must lie inside the file and be readable to its last byte.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "io/shard_index.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::string> problems;
  const auto bytes = std::span(reinterpret_cast<const std::byte*>(data), size);
  const bolide::SafetensorsHeader header = bolide::parse_safetensors(bytes, "fuzz.safetensors", problems);
  volatile uint8_t sink = 0;
  for (const auto& [name, entry] : header.tensors) {
    if (entry.begin > entry.end || entry.end > size || bolide::element_count(entry.shape) < 0) std::abort();
    if (entry.begin < entry.end) sink = sink + data[entry.begin] + data[entry.end - 1];
  }
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto& [name, file] : bolide::parse_shard_index(text, "fuzz.index.json", problems)) {
    if (file.find('/') != std::string::npos) std::abort();
  }
  for (const std::string& problem : problems) {
    if (problem.empty() || problem.size() > 4096) std::abort();
  }
  return 0;
}
