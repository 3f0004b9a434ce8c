// Numbers as messages print them.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace bolide {

// "41,200": thousands separated by commas, whatever the locale.
inline std::string with_commas(int64_t value) {
  const std::string digits = std::to_string(value);
  const size_t first = digits[0] == '-' ? 1 : 0;
  std::string out(digits, 0, first);
  for (size_t i = first; i < digits.size(); ++i) {
    if (i > first && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

// "15.2 GiB", "600.0 MiB", "12.0 KiB", "17 B": the largest binary unit that gives at least one.
inline std::string human_bytes(size_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= (size_t{1} << 30)) return fmt::format("{:.1f} GiB", value / (1 << 30));
  if (bytes >= (size_t{1} << 20)) return fmt::format("{:.1f} MiB", value / (1 << 20));
  if (bytes >= (size_t{1} << 10)) return fmt::format("{:.1f} KiB", value / (1 << 10));
  return fmt::format("{} B", bytes);
}

}  // namespace bolide
