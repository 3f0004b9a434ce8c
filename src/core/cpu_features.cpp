#include "core/cpu_features.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>
#include <string_view>

namespace bolide {
namespace {

constexpr std::array<std::string_view, 22> kTold{"sse4_1",      "sse4_2",      "avx",      "avx2",     "fma",         "f16c",
                                                 "avx512f",     "avx512bw",    "avx512dq", "avx512vl", "avx512_vnni", "avx_vnni",
                                                 "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8",    "asimd",
                                                 "asimdhp",     "bf16",        "i8mm",     "sve"};

// What follows the colon, where the line's key is `key`.
bool value_of(const std::string& line, std::string_view key, std::string& value) {
  if (!line.starts_with(key)) return false;
  const size_t colon = line.find(':');
  if (colon == std::string::npos || line.find_first_not_of(" \t", key.size()) != colon) return false;
  const size_t begin = line.find_first_not_of(" \t", colon + 1);
  value = begin == std::string::npos ? "" : line.substr(begin);
  return true;
}

}  // namespace

CpuFacts cpu_facts(const std::filesystem::path& root) {
  CpuFacts facts;
  std::ifstream file(root / "proc/cpuinfo");
  bool listed = false;
  for (std::string line, value; std::getline(file, line) && !(listed && !facts.name.empty());) {
    if (facts.name.empty() && value_of(line, "model name", value)) facts.name = value;
    if (listed || !(value_of(line, "flags", value) || value_of(line, "Features", value))) continue;
    listed = true;
    std::istringstream words(value);
    for (std::string word; words >> word;) {
      if (std::find(kTold.begin(), kTold.end(), word) != kTold.end()) facts.features.push_back(word);
    }
  }
  return facts;
}

}  // namespace bolide
