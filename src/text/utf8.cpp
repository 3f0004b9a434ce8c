#include "text/utf8.h"

#include <cstdint>
#include <cstring>

#include "text/unicode.h"

namespace bolide {
namespace {

enum class SequenceState { complete, invalid, truncated };
struct Sequence {
  SequenceState state;
  size_t length;  // of the whole sequence, of the maximal subpart, or of what is there
};

// Judges the sequence at the start of `bytes` (not empty) by table 3-7 of the Unicode Standard.
Sequence first_sequence(std::string_view bytes) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned lead = at(0);
  if (lead < 0x80) return {SequenceState::complete, 1};
  if (lead < 0xC2 || lead > 0xF4) return {SequenceState::invalid, 1};
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  unsigned low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {SequenceState::truncated, i};
    if (at(i) < low || at(i) > high) return {SequenceState::invalid, i};
    low = 0x80;
    high = 0xBF;
  }
  return {SequenceState::complete, length};
}

}  // namespace

std::optional<size_t> first_invalid_utf8(std::string_view bytes) {
  for (size_t pos = 0; pos < bytes.size();) {
    if (pos + 8 <= bytes.size()) {
      uint64_t word;
      std::memcpy(&word, bytes.data() + pos, 8);
      if ((word & 0x8080808080808080u) == 0) {
        pos += 8;
        continue;
      }
    }
    const Sequence s = first_sequence(bytes.substr(pos));
    if (s.state != SequenceState::complete) return pos;
    pos += s.length;
  }
  return std::nullopt;
}

std::string utf8_lossy(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (size_t pos = 0; pos < bytes.size();) {
    const Sequence s = first_sequence(bytes.substr(pos));
    if (s.state == SequenceState::complete) {
      out.append(bytes.substr(pos, s.length));
    } else {
      out.append(kReplacementCharacter);
    }
    pos += s.length;
  }
  return out;
}

size_t utf8_complete_prefix(std::string_view bytes) {
  for (size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
    const size_t pos = bytes.size() - back;
    if ((static_cast<unsigned char>(bytes[pos]) & 0xC0) == 0x80) continue;
    return first_sequence(bytes.substr(pos)).state == SequenceState::truncated ? pos : bytes.size();
  }
  return bytes.size();
}

}  // namespace bolide
