// Upper, lower and title case as Python's str knows them.
#include <utf8proc.h>

#include <algorithm>
#include <iterator>

#include "text/jinja_text.h"
#include "text/unicode.h"

namespace bolide::jinja {
namespace {

// Characters whose upper or title case is more than one character (Unicode's SpecialCasing.txt, the unconditional rows).
struct LongCase {
  char32_t from;
  std::u32string_view upper, title;
};
// clang-format off
constexpr LongCase kLongCases[] = {
    {0xdf, U"SS", U"Ss"}, {0x149, U"\u02bcN", U"\u02bcN"}, {0x1f0, U"J\u030c", U"J\u030c"},
    {0x390, U"\u0399\u0308\u0301", U"\u0399\u0308\u0301"}, {0x3b0, U"\u03a5\u0308\u0301", U"\u03a5\u0308\u0301"},
    {0x587, U"\u0535\u0552", U"\u0535\u0582"}, {0x1e96, U"H\u0331", U"H\u0331"}, {0x1e97, U"T\u0308", U"T\u0308"},
    {0x1e98, U"W\u030a", U"W\u030a"}, {0x1e99, U"Y\u030a", U"Y\u030a"}, {0x1e9a, U"A\u02be", U"A\u02be"},
    {0x1f50, U"\u03a5\u0313", U"\u03a5\u0313"}, {0x1f52, U"\u03a5\u0313\u0300", U"\u03a5\u0313\u0300"},
    {0x1f54, U"\u03a5\u0313\u0301", U"\u03a5\u0313\u0301"}, {0x1f56, U"\u03a5\u0313\u0342", U"\u03a5\u0313\u0342"},
    {0x1f80, U"\u1f08\u0399", U"\u1f88"}, {0x1f81, U"\u1f09\u0399", U"\u1f89"}, {0x1f82, U"\u1f0a\u0399", U"\u1f8a"},
    {0x1f83, U"\u1f0b\u0399", U"\u1f8b"}, {0x1f84, U"\u1f0c\u0399", U"\u1f8c"}, {0x1f85, U"\u1f0d\u0399", U"\u1f8d"},
    {0x1f86, U"\u1f0e\u0399", U"\u1f8e"}, {0x1f87, U"\u1f0f\u0399", U"\u1f8f"}, {0x1f88, U"\u1f08\u0399", U"\u1f88"},
    {0x1f89, U"\u1f09\u0399", U"\u1f89"}, {0x1f8a, U"\u1f0a\u0399", U"\u1f8a"}, {0x1f8b, U"\u1f0b\u0399", U"\u1f8b"},
    {0x1f8c, U"\u1f0c\u0399", U"\u1f8c"}, {0x1f8d, U"\u1f0d\u0399", U"\u1f8d"}, {0x1f8e, U"\u1f0e\u0399", U"\u1f8e"},
    {0x1f8f, U"\u1f0f\u0399", U"\u1f8f"}, {0x1f90, U"\u1f28\u0399", U"\u1f98"}, {0x1f91, U"\u1f29\u0399", U"\u1f99"},
    {0x1f92, U"\u1f2a\u0399", U"\u1f9a"}, {0x1f93, U"\u1f2b\u0399", U"\u1f9b"}, {0x1f94, U"\u1f2c\u0399", U"\u1f9c"},
    {0x1f95, U"\u1f2d\u0399", U"\u1f9d"}, {0x1f96, U"\u1f2e\u0399", U"\u1f9e"}, {0x1f97, U"\u1f2f\u0399", U"\u1f9f"},
    {0x1f98, U"\u1f28\u0399", U"\u1f98"}, {0x1f99, U"\u1f29\u0399", U"\u1f99"}, {0x1f9a, U"\u1f2a\u0399", U"\u1f9a"},
    {0x1f9b, U"\u1f2b\u0399", U"\u1f9b"}, {0x1f9c, U"\u1f2c\u0399", U"\u1f9c"}, {0x1f9d, U"\u1f2d\u0399", U"\u1f9d"},
    {0x1f9e, U"\u1f2e\u0399", U"\u1f9e"}, {0x1f9f, U"\u1f2f\u0399", U"\u1f9f"}, {0x1fa0, U"\u1f68\u0399", U"\u1fa8"},
    {0x1fa1, U"\u1f69\u0399", U"\u1fa9"}, {0x1fa2, U"\u1f6a\u0399", U"\u1faa"}, {0x1fa3, U"\u1f6b\u0399", U"\u1fab"},
    {0x1fa4, U"\u1f6c\u0399", U"\u1fac"}, {0x1fa5, U"\u1f6d\u0399", U"\u1fad"}, {0x1fa6, U"\u1f6e\u0399", U"\u1fae"},
    {0x1fa7, U"\u1f6f\u0399", U"\u1faf"}, {0x1fa8, U"\u1f68\u0399", U"\u1fa8"}, {0x1fa9, U"\u1f69\u0399", U"\u1fa9"},
    {0x1faa, U"\u1f6a\u0399", U"\u1faa"}, {0x1fab, U"\u1f6b\u0399", U"\u1fab"}, {0x1fac, U"\u1f6c\u0399", U"\u1fac"},
    {0x1fad, U"\u1f6d\u0399", U"\u1fad"}, {0x1fae, U"\u1f6e\u0399", U"\u1fae"}, {0x1faf, U"\u1f6f\u0399", U"\u1faf"},
    {0x1fb2, U"\u1fba\u0399", U"\u1fba\u0345"}, {0x1fb3, U"\u0391\u0399", U"\u1fbc"}, {0x1fb4, U"\u0386\u0399", U"\u0386\u0345"},
    {0x1fb6, U"\u0391\u0342", U"\u0391\u0342"}, {0x1fb7, U"\u0391\u0342\u0399", U"\u0391\u0342\u0345"},
    {0x1fbc, U"\u0391\u0399", U"\u1fbc"}, {0x1fc2, U"\u1fca\u0399", U"\u1fca\u0345"}, {0x1fc3, U"\u0397\u0399", U"\u1fcc"},
    {0x1fc4, U"\u0389\u0399", U"\u0389\u0345"}, {0x1fc6, U"\u0397\u0342", U"\u0397\u0342"},
    {0x1fc7, U"\u0397\u0342\u0399", U"\u0397\u0342\u0345"}, {0x1fcc, U"\u0397\u0399", U"\u1fcc"},
    {0x1fd2, U"\u0399\u0308\u0300", U"\u0399\u0308\u0300"}, {0x1fd3, U"\u0399\u0308\u0301", U"\u0399\u0308\u0301"},
    {0x1fd6, U"\u0399\u0342", U"\u0399\u0342"}, {0x1fd7, U"\u0399\u0308\u0342", U"\u0399\u0308\u0342"},
    {0x1fe2, U"\u03a5\u0308\u0300", U"\u03a5\u0308\u0300"}, {0x1fe3, U"\u03a5\u0308\u0301", U"\u03a5\u0308\u0301"},
    {0x1fe4, U"\u03a1\u0313", U"\u03a1\u0313"}, {0x1fe6, U"\u03a5\u0342", U"\u03a5\u0342"},
    {0x1fe7, U"\u03a5\u0308\u0342", U"\u03a5\u0308\u0342"}, {0x1ff2, U"\u1ffa\u0399", U"\u1ffa\u0345"},
    {0x1ff3, U"\u03a9\u0399", U"\u1ffc"}, {0x1ff4, U"\u038f\u0399", U"\u038f\u0345"}, {0x1ff6, U"\u03a9\u0342", U"\u03a9\u0342"},
    {0x1ff7, U"\u03a9\u0342\u0399", U"\u03a9\u0342\u0345"}, {0x1ffc, U"\u03a9\u0399", U"\u1ffc"}, {0xfb00, U"FF", U"Ff"},
    {0xfb01, U"FI", U"Fi"}, {0xfb02, U"FL", U"Fl"}, {0xfb03, U"FFI", U"Ffi"}, {0xfb04, U"FFL", U"Ffl"}, {0xfb05, U"ST", U"St"},
    {0xfb06, U"ST", U"St"}, {0xfb13, U"\u0544\u0546", U"\u0544\u0576"}, {0xfb14, U"\u0544\u0535", U"\u0544\u0565"},
    {0xfb15, U"\u0544\u053b", U"\u0544\u056b"}, {0xfb16, U"\u054e\u0546", U"\u054e\u0576"},
    {0xfb17, U"\u0544\u053d", U"\u0544\u056d"},
};
// clang-format on

const LongCase* long_case(char32_t c) {
  const auto found = std::lower_bound(std::begin(kLongCases), std::end(kLongCases), c,
                                      [](const LongCase& row, char32_t value) { return row.from < value; });
  return found != std::end(kLongCases) && found->from == c ? found : nullptr;
}

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }
bool is_upper_character(char32_t c) {
  return utf8proc_isupper(static_cast<utf8proc_int32_t>(c)) != 0 || category(c) == UTF8PROC_CATEGORY_LU;
}
bool is_lower_character(char32_t c) {
  return utf8proc_islower(static_cast<utf8proc_int32_t>(c)) != 0 || category(c) == UTF8PROC_CATEGORY_LL;
}
bool is_title_character(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LT; }
bool is_cased(char32_t c) { return is_upper_character(c) || is_lower_character(c) || is_title_character(c); }
// Case_Ignorable, as far as the rule of the final sigma needs it: marks, modifiers, formats and the word-internal punctuation.
bool is_case_ignorable(char32_t c) {
  const auto found = category(c);
  return found == UTF8PROC_CATEGORY_MN || found == UTF8PROC_CATEGORY_ME || found == UTF8PROC_CATEGORY_CF || found == UTF8PROC_CATEGORY_LM ||
         found == UTF8PROC_CATEGORY_SK || c == 0x27 || c == 0x2E || c == 0x3A || c == 0xB7 || c == 0x2018 || c == 0x2019 || c == 0x2024;
}

void append_all(std::string& out, std::u32string_view characters) {
  for (const char32_t c : characters) append_code_point(out, c);
}

void append_upper(std::string& out, char32_t c) {
  if (const LongCase* row = long_case(c)) return append_all(out, row->upper);
  append_code_point(out, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
}

void append_title(std::string& out, char32_t c) {
  if (const LongCase* row = long_case(c)) return append_all(out, row->title);
  append_code_point(out, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
}

// A sigma after a cased letter and before none, case-ignorable characters aside, is a final one.
bool is_final_sigma(const std::vector<char32_t>& text, size_t at) {
  size_t before = at;
  while (before > 0 && is_case_ignorable(text[before - 1])) --before;
  if (before == 0 || !is_cased(text[before - 1])) return false;
  size_t after = at + 1;
  while (after < text.size() && is_case_ignorable(text[after])) ++after;
  return after == text.size() || !is_cased(text[after]);
}

void append_lower(std::string& out, const std::vector<char32_t>& text, size_t at) {
  const char32_t c = text[at];
  if (c == 0x130) return append_all(out, U"i\u0307");
  if (c == 0x3A3) return append_code_point(out, is_final_sigma(text, at) ? 0x3C2 : 0x3C3);
  append_code_point(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
}

}  // namespace

std::string upper(std::string_view text) {
  std::string out;
  for (size_t position = 0; position < text.size();) append_upper(out, next_code_point(text, position));
  return out;
}

std::string lower(std::string_view text) {
  const std::vector<char32_t> characters = code_points(text);
  std::string out;
  for (size_t i = 0; i < characters.size(); ++i) append_lower(out, characters, i);
  return out;
}

std::string title(std::string_view text) {
  const std::vector<char32_t> characters = code_points(text);
  std::string out;
  bool inside = false;
  for (size_t i = 0; i < characters.size(); ++i) {
    if (inside)
      append_lower(out, characters, i);
    else
      append_title(out, characters[i]);
    inside = is_cased(characters[i]);
  }
  return out;
}

std::string capitalize(std::string_view text) {
  const std::vector<char32_t> characters = code_points(text);
  std::string out;
  for (size_t i = 0; i < characters.size(); ++i) {
    if (i == 0)
      append_title(out, characters[i]);
    else
      append_lower(out, characters, i);
  }
  return out;
}

std::string swap_case(std::string_view text) {
  const std::vector<char32_t> characters = code_points(text);
  std::string out;
  for (size_t i = 0; i < characters.size(); ++i) {
    if (is_upper_character(characters[i]))
      append_lower(out, characters, i);
    else if (is_lower_character(characters[i]))
      append_upper(out, characters[i]);
    else
      append_code_point(out, characters[i]);
  }
  return out;
}

std::string case_fold(std::string_view text) {
  std::string out;
  for (size_t position = 0; position < text.size();) {
    const auto c = static_cast<utf8proc_int32_t>(next_code_point(text, position));
    utf8proc_int32_t folded[8];
    int boundary = 0;
    const utf8proc_ssize_t size = utf8proc_decompose_char(c, folded, std::size(folded), UTF8PROC_CASEFOLD, &boundary);
    for (utf8proc_ssize_t i = 0; i < size; ++i) append_code_point(out, static_cast<char32_t>(folded[i]));
  }
  return out;
}

bool is_upper(std::string_view text) {
  bool cased = false;
  for (size_t position = 0; position < text.size();) {
    const char32_t c = next_code_point(text, position);
    if (is_lower_character(c) || is_title_character(c)) return false;
    cased = cased || is_upper_character(c);
  }
  return cased;
}

bool is_lower(std::string_view text) {
  bool cased = false;
  for (size_t position = 0; position < text.size();) {
    const char32_t c = next_code_point(text, position);
    if (is_upper_character(c) || is_title_character(c)) return false;
    cased = cased || is_lower_character(c);
  }
  return cased;
}

bool is_title(std::string_view text) {
  bool cased = false, inside = false;
  for (size_t position = 0; position < text.size();) {
    const char32_t c = next_code_point(text, position);
    const bool starts = is_upper_character(c) || is_title_character(c);
    if (starts ? inside : is_lower_character(c) && !inside) return false;
    inside = starts || is_lower_character(c);
    cased = cased || inside;
  }
  return cased;
}

}  // namespace bolide::jinja
