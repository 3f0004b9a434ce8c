#include "core/messages.h"

#include <fmt/format.h>

#include <algorithm>

namespace bolide {
namespace {

constexpr size_t kListedProblems = 20;

}  // namespace

std::string in_quotes(std::string_view text, size_t max_bytes) {
  const bool cut = text.size() > max_bytes;
  if (cut) {
    // A cut inside a UTF-8 sequence would print half a character.
    while (max_bytes > 0 && (static_cast<unsigned char>(text[max_bytes]) & 0xc0) == 0x80) --max_bytes;
    text = text.substr(0, max_bytes);
  }
  std::string out = "'";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  out += cut ? "...'" : "'";
  return out;
}

std::string problems_text(const std::vector<std::string>& problems, const std::string& where) {
  if (problems.size() == 1) {
    const std::string& only = problems.front();
    return only.find(where) != std::string::npos ? only : where + ": " + only;
  }
  std::string out = fmt::format("{} problems in {}: ", problems.size(), where);
  const size_t listed = std::min(problems.size(), kListedProblems);
  for (size_t i = 0; i < listed; ++i) {
    if (i > 0) out += "; ";
    out += problems[i];
  }
  if (listed < problems.size()) out += fmt::format("; and {} more", problems.size() - listed);
  return out;
}

}  // namespace bolide
