#include "text/byte_level.h"

#include <array>

#include "text/unicode.h"

namespace bolide {
namespace {

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<int16_t, 0x144> bytes;  // the highest character is U+0143
};

// Bytes that are printable in Latin-1 stand for themselves, the others follow from U+0100 on.
Alphabet make_alphabet() {
  Alphabet a;
  a.bytes.fill(-1);
  char32_t next = 0x100;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
    const char32_t c = printable ? static_cast<char32_t>(b) : next++;
    append_code_point(a.characters[static_cast<size_t>(b)], c);
    a.bytes[c] = static_cast<int16_t>(b);
  }
  return a;
}

const Alphabet& alphabet() {
  static const Alphabet a = make_alphabet();
  return a;
}

}  // namespace

void append_byte_level(std::string_view bytes, std::string& out) {
  const Alphabet& a = alphabet();
  for (const char b : bytes) out += a.characters[static_cast<unsigned char>(b)];
}

int byte_of_character(char32_t c) { return c < alphabet().bytes.size() ? alphabet().bytes[c] : -1; }

std::string bytes_of_token(std::string_view token) {
  std::string out;
  for (size_t pos = 0; pos < token.size();) {
    const int b = byte_of_character(next_code_point(token, pos));
    if (b < 0) return std::string(token);
    out += static_cast<char>(b);
  }
  return out;
}

}  // namespace bolide
