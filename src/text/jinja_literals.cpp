#include "text/jinja_literals.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <cstdlib>

#include "text/unicode.h"

namespace bolide::jinja {
namespace {

bool is_digit_of(char c, int base) {
  const int lower = std::tolower(static_cast<unsigned char>(c));
  const int value = lower >= '0' && lower <= '9' ? lower - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 99;
  return value < base;
}

// Digits with single underscores between them: bytes read. `lead`: an underscore may also come first.
size_t digits_at(std::string_view text, size_t begin, int base, bool lead) {
  size_t end = begin;
  while (end < text.size()) {
    if (is_digit_of(text[end], base)) {
      ++end;
    } else if (text[end] == '_' && (end > begin || lead) && end + 1 < text.size() && is_digit_of(text[end + 1], base)) {
      end += 2;
    } else {
      break;
    }
  }
  return end - begin;
}

std::string without_underscores(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c != '_') out += c;
  }
  return out;
}

// Bytes of ".5", "e3", ".5e-3" at `begin`; 0 when there is no such part.
size_t real_part_at(std::string_view text, size_t begin) {
  size_t end = begin;
  if (end < text.size() && text[end] == '.') {
    const size_t fraction = digits_at(text, end + 1, 10, false);
    if (fraction == 0) return 0;
    end += 1 + fraction;
  }
  if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
    size_t exponent = end + 1;
    if (exponent < text.size() && (text[exponent] == '+' || text[exponent] == '-')) ++exponent;
    const size_t digits = digits_at(text, exponent, 10, false);
    if (digits > 0) end = exponent + digits;
  }
  return end - begin;
}

NumberLiteral integer_literal(std::string_view all, size_t size, size_t prefix, int base) {
  NumberLiteral out;
  out.size = size;
  const std::string digits = without_underscores(all.substr(prefix, size - prefix));
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out.integer, base);
  out.too_large = error != std::errc() || end != digits.data() + digits.size();
  return out;
}

int base_of(char c) {
  switch (c) {
    case 'x':
    case 'X':
      return 16;
    case 'o':
    case 'O':
      return 8;
    case 'b':
    case 'B':
      return 2;
    default:
      return 10;
  }
}

// Reads `count` hexadecimal digits at `position` into `value`.
bool read_hex(std::string_view text, size_t position, size_t count, uint32_t& value) {
  if (position + count > text.size()) return false;
  const char* begin = text.data() + position;
  const auto [end, error] = std::from_chars(begin, begin + count, value, 16);
  return error == std::errc() && end == begin + count;
}

// \n and the like; 0 when `c` names none.
char simple_escape(char c) {
  switch (c) {
    case 'n':
      return '\n';
    case 't':
      return '\t';
    case 'r':
      return '\r';
    case 'a':
      return '\a';
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'v':
      return '\v';
    case '\\':
    case '\'':
    case '"':
      return c;
    default:
      return '\0';
  }
}

}  // namespace

NumberLiteral read_number(std::string_view text, bool allow_real) {
  const int base = text.size() > 1 && text[0] == '0' ? base_of(text[1]) : 10;
  if (base != 10) {
    if (const size_t digits = digits_at(text, 2, base, true)) return integer_literal(text, 2 + digits, 2, base);
  }
  const size_t whole = digits_at(text, 0, 10, false);
  const size_t rest = allow_real ? real_part_at(text, whole) : 0;
  if (rest > 0) {
    NumberLiteral out;
    out.size = whole + rest;
    out.is_real = true;
    out.real = std::strtod(without_underscores(text.substr(0, out.size)).c_str(), nullptr);
    return out;
  }
  // An integer that begins with 0 is a row of zeros.
  size_t size = whole;
  if (text[0] == '0') {
    size = 1;
    while (size < whole && (text[size] == '0' || (text[size] == '_' && text[size + 1] == '0'))) ++size;
  }
  return integer_literal(text, size, 0, 10);
}

UnescapedText unescape_literal(std::string_view text) {
  UnescapedText out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out.text += text[i];
      continue;
    }
    const size_t begin = i;
    const char kind = text[++i];
    uint32_t value = 0;
    const size_t digits = kind == 'x' ? 2 : kind == 'u' ? 4 : kind == 'U' ? 8 : 0;
    if (digits > 0) {
      if (!read_hex(text, i + 1, digits, value)) return {"", fmt::format("\\{} needs {} hexadecimal digits", kind, digits), begin};
      i += digits;
    } else if (kind >= '0' && kind <= '7') {
      size_t end = i;
      while (end < text.size() && end < i + 3 && text[end] >= '0' && text[end] <= '7')
        value = value * 8 + static_cast<uint32_t>(text[end++] - '0');
      i = end - 1;
    } else if (const char simple = simple_escape(kind)) {
      out.text += simple;
      continue;
    } else if (kind == 'N') {
      return {"", "characters by name (\\N{...}) are not supported; write \\uXXXX", begin};
    } else {
      if (kind != '\n') out.text.append({'\\', kind});
      continue;
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) return {"", fmt::format("U+{:04X} is no character", value), begin};
    append_code_point(out.text, static_cast<char32_t>(value));
  }
  return out;
}

}  // namespace bolide::jinja
