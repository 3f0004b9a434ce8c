// Code points of valid UTF-8 and the few character classes that tokenizers ask for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace bolide {

constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// The code point at `pos`, which moves past it. `text` must be valid UTF-8 and pos < text.size(); on other bytes the value is
// meaningless, but nothing outside `text` is read.
inline char32_t next_code_point(std::string_view text, size_t& pos) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned lead = byte(pos);
  if (lead < 0x80) {
    pos += 1;
    return lead;
  }
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  char32_t value = lead & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) value = value << 6 | (byte(pos + i) & 0x3Fu);
  pos = pos + length < text.size() ? pos + length : text.size();
  return value;
}

inline void append_code_point(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

// Start of the code point that ends at `end` (end > 0, valid UTF-8).
inline size_t previous_code_point(std::string_view text, size_t end) {
  size_t pos = end - 1;
  while (pos > 0 && end - pos < 4 && (static_cast<unsigned char>(text[pos]) & 0xC0) == 0x80) --pos;
  return pos;
}

bool is_whitespace(char32_t c);   // property White_Space
bool is_word(char32_t c);         // Unicode TR18's \w: Alphabetic, M, Nd, Pc, Join_Control
bool is_numeric(char32_t c);      // Nd, Nl, No
bool is_punctuation(char32_t c);  // P, and the ASCII symbols $+<=>^`|~
bool is_mark(char32_t c);         // M, as of Unicode 9 (see unicode_normalize)

enum class NormalizationForm : uint8_t { nfc, nfd, nfkc, nfkd };

// Unicode TR15 with the characters of Unicode 9, which is what the `tokenizers` library does; later ones stay as they are. Text that is
// plainly in the form already (ASCII and more) comes back as it is; time is O(n log n) for any text.
std::string unicode_normalize(std::string_view text, NormalizationForm form);

// Character by character, as Rust's char::to_lowercase does (no final-sigma rule).
std::string unicode_lowercase(std::string_view text);

}  // namespace bolide
