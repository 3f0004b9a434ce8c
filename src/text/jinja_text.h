// What Python's str does, over UTF-8: characters are code points, cases and classes are Unicode's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bolide::jinja {

// Byte position after the character at `position` (< text.size()).
size_t next_character(std::string_view text, size_t position);
int64_t count_characters(std::string_view text);
// Byte position of character `index` (text.size() when there are fewer).
size_t byte_of_character(std::string_view text, int64_t index);
std::vector<char32_t> code_points(std::string_view text);
std::string utf8_of(const std::vector<char32_t>& characters);

// Python's str.isspace: White_Space and the separators U+001C to U+001F.
bool is_blank(char32_t c);
// str.isprintable of one character.
bool is_printable(char32_t c);

enum class Side : uint8_t { left, right, both };
// Without `characters`: blanks.
std::string_view strip(std::string_view text, Side side, std::optional<std::string_view> characters = std::nullopt);

// `at_most` < 0: no limit. An empty separator is the caller's to refuse.
std::vector<std::string_view> split(std::string_view text, std::string_view separator, int64_t at_most);
std::vector<std::string_view> split_from_right(std::string_view text, std::string_view separator, int64_t at_most);
std::vector<std::string_view> split_blanks(std::string_view text, int64_t at_most);
std::vector<std::string_view> split_blanks_from_right(std::string_view text, int64_t at_most);
// At \n, \r, \r\n, \v, \f, U+001C to U+001E, U+0085, U+2028, U+2029.
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);
// `at_most` < 0: all. An empty `from` stands before every character and at the end.
std::string replace(std::string_view text, std::string_view from, std::string_view to, int64_t at_most);

std::string upper(std::string_view text);
std::string lower(std::string_view text);  // with the rule for a final sigma
std::string title(std::string_view text);  // str.title
std::string capitalize(std::string_view text);
std::string swap_case(std::string_view text);
std::string case_fold(std::string_view text);

enum class CharacterClass : uint8_t { alpha, alnum, decimal, digit, numeric, space, ascii, printable };
// str.isalpha and the like: of every character, and there is one (ascii and printable also hold for the empty text).
bool all_are(std::string_view text, CharacterClass wanted);
bool is_upper(std::string_view text);
bool is_lower(std::string_view text);
bool is_title(std::string_view text);

}  // namespace bolide::jinja
