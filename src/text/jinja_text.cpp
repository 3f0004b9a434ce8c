#include "text/jinja_text.h"

#include <utf8proc.h>

#include <algorithm>

#include "text/jinja_value.h"
#include "text/unicode.h"

namespace bolide::jinja {
namespace {

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

bool is_line_end(char32_t c) { return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029; }

bool is_letter(char32_t c) {
  const auto found = category(c);
  return found >= UTF8PROC_CATEGORY_LU && found <= UTF8PROC_CATEGORY_LO;
}

// Numeric_Type Digit: the decimals, and digits that are raised, lowered or encircled.
bool is_digit(char32_t c) {
  if (category(c) == UTF8PROC_CATEGORY_ND) return true;
  return c == 0xB2 || c == 0xB3 || c == 0xB9 || c == 0x2070 || (c >= 0x2074 && c <= 0x2079) || (c >= 0x2080 && c <= 0x2089) ||
         (c >= 0x2460 && c <= 0x2468);
}

bool is_of(char32_t c, CharacterClass wanted) {
  switch (wanted) {
    case CharacterClass::alpha:
      return is_letter(c);
    case CharacterClass::alnum:
      return is_letter(c) || is_digit(c) || is_numeric(c);
    case CharacterClass::decimal:
      return category(c) == UTF8PROC_CATEGORY_ND;
    case CharacterClass::digit:
      return is_digit(c);
    case CharacterClass::numeric:
      return is_numeric(c);
    case CharacterClass::space:
      return is_blank(c);
    case CharacterClass::ascii:
      return c < 0x80;
    case CharacterClass::printable:
      break;
  }
  return is_printable(c);
}

// Bytes that strip takes away in front; where it stops at the end.
size_t blank_prefix(std::string_view text, std::optional<std::string_view> characters) {
  size_t position = 0;
  while (position < text.size()) {
    const size_t next = next_character(text, position);
    size_t at = position;
    const bool drop = characters ? characters->find(text.substr(position, next - position)) != std::string_view::npos
                                 : is_blank(next_code_point(text, at));
    if (!drop) break;
    position = next;
  }
  return position;
}

size_t without_blank_suffix(std::string_view text, std::optional<std::string_view> characters) {
  size_t end = text.size();
  while (end > 0) {
    const size_t begin = previous_code_point(text, end);
    size_t at = begin;
    const bool drop =
        characters ? characters->find(text.substr(begin, end - begin)) != std::string_view::npos : is_blank(next_code_point(text, at));
    if (!drop) break;
    end = begin;
  }
  return end;
}

}  // namespace

size_t next_character(std::string_view text, size_t position) {
  ++position;
  while (position < text.size() && (static_cast<unsigned char>(text[position]) & 0xC0) == 0x80) ++position;
  return position;
}

int64_t count_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

size_t byte_of_character(std::string_view text, int64_t index) {
  size_t position = 0;
  while (index > 0 && position < text.size()) {
    position = next_character(text, position);
    --index;
  }
  return position;
}

std::vector<char32_t> code_points(std::string_view text) {
  std::vector<char32_t> out;
  out.reserve(text.size());
  for (size_t position = 0; position < text.size();) out.push_back(next_code_point(text, position));
  return out;
}

std::string utf8_of(const std::vector<char32_t>& characters) {
  std::string out;
  for (const char32_t c : characters) append_code_point(out, c);
  return out;
}

bool is_blank(char32_t c) { return (c >= 0x1C && c <= 0x1F) || is_whitespace(c); }

bool is_printable(char32_t c) {
  if (c < 0x7F) return c >= 0x20;
  const auto found = category(c);
  return found != UTF8PROC_CATEGORY_CN && found < UTF8PROC_CATEGORY_ZS;  // neither separators nor others
}

std::string_view strip(std::string_view text, Side side, std::optional<std::string_view> characters) {
  if (side != Side::right) text.remove_prefix(blank_prefix(text, characters));
  if (side != Side::left) text = text.substr(0, without_blank_suffix(text, characters));
  return text;
}

std::vector<std::string_view> split(std::string_view text, std::string_view separator, int64_t at_most) {
  std::vector<std::string_view> parts;
  size_t begin = 0;
  while (at_most < 0 || static_cast<int64_t>(parts.size()) < at_most) {
    const size_t end = text.find(separator, begin);
    if (end == std::string_view::npos) break;
    parts.push_back(text.substr(begin, end - begin));
    begin = end + separator.size();
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::vector<std::string_view> split_from_right(std::string_view text, std::string_view separator, int64_t at_most) {
  std::vector<std::string_view> parts;
  size_t end = text.size();
  while (end >= separator.size() && (at_most < 0 || static_cast<int64_t>(parts.size()) < at_most)) {
    const size_t begin = text.rfind(separator, end - separator.size());
    if (begin == std::string_view::npos) break;
    parts.push_back(text.substr(begin + separator.size(), end - begin - separator.size()));
    end = begin;
  }
  parts.push_back(text.substr(0, end));
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_blanks(std::string_view text, int64_t at_most) {
  std::vector<std::string_view> parts;
  text = strip(text, Side::left);
  while (!text.empty()) {
    if (at_most >= 0 && static_cast<int64_t>(parts.size()) == at_most) {
      parts.push_back(text);
      break;
    }
    size_t end = 0;
    for (size_t next = 0; end < text.size(); end = next) {
      if (is_blank(next_code_point(text, next))) break;
    }
    parts.push_back(text.substr(0, end));
    text = strip(text.substr(end), Side::left);
  }
  return parts;
}

std::vector<std::string_view> split_blanks_from_right(std::string_view text, int64_t at_most) {
  std::vector<std::string_view> parts;
  text = strip(text, Side::right);
  while (!text.empty()) {
    if (at_most >= 0 && static_cast<int64_t>(parts.size()) == at_most) {
      parts.push_back(text);
      break;
    }
    size_t begin = text.size();
    while (begin > 0) {
      const size_t before = previous_code_point(text, begin);
      size_t at = before;
      if (is_blank(next_code_point(text, at))) break;
      begin = before;
    }
    parts.push_back(text.substr(begin));
    text = strip(text.substr(0, begin), Side::right);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t position = 0; position < text.size();) {
    const size_t at = position;
    const char32_t c = next_code_point(text, position);
    if (!is_line_end(c)) continue;
    if (c == '\r' && position < text.size() && text[position] == '\n') ++position;
    lines.push_back(text.substr(begin, (keep_ends ? position : at) - begin));
    begin = position;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to, int64_t at_most) {
  std::string out;
  size_t position = 0;
  for (int64_t done = 0; at_most < 0 || done < at_most; ++done) {
    const size_t found = from.empty() ? position : text.find(from, position);
    if (found == std::string_view::npos) break;
    out.append(text.substr(position, found - position)).append(to);
    require_size(out.size());
    position = found + from.size();
    if (!from.empty()) continue;
    if (position == text.size()) break;
    const size_t next = next_character(text, position);
    out.append(text.substr(position, next - position));
    position = next;
  }
  return out.append(text.substr(position));
}

bool all_are(std::string_view text, CharacterClass wanted) {
  if (text.empty()) return wanted == CharacterClass::ascii || wanted == CharacterClass::printable;
  for (size_t position = 0; position < text.size();) {
    if (!is_of(next_code_point(text, position), wanted)) return false;
  }
  return true;
}

}  // namespace bolide::jinja
