// Literals of expressions: numbers and strings, as Python writes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace bolide::jinja {

struct NumberLiteral {
  size_t size = 0;  // bytes read
  bool is_real = false, too_large = false;
  int64_t integer = 0;
  double real = 0;
};
// `text` begins with a digit. 12, 1_000, 0x1F, 0o7, 0b1, and unless `allow_real` is false, 1.5, 1e3, 1.5e-3.
NumberLiteral read_number(std::string_view text, bool allow_real);

struct UnescapedText {
  std::string text;
  std::string error;    // empty: none
  size_t position = 0;  // of the error
};
// \n, \t, \\, \', \", \ooo, \xHH, \uXXXX, \UXXXXXXXX and the others of Python; an unknown escape stays as it is.
UnescapedText unescape_literal(std::string_view text);

}  // namespace bolide::jinja
