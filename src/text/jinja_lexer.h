// A template's source as tokens, with the settings that chat templates are written for: trim_blocks, lstrip_blocks, and one line feed
// at the end dropped. The rules are those of Jinja's documentation ("Whitespace Control") and of its lexer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bolide::jinja {

// A template that cannot be parsed; `position` is a byte of the normalised source.
struct SyntaxFailure {
  std::string text;
  uint32_t position;
};

enum class TokenType : uint8_t { data, print_begin, print_end, block_begin, block_end, name, text, integer, real, symbol, end };

struct Token {
  TokenType type;
  uint32_t position;
  std::string text;  // of data, names, strings (unescaped) and symbols
  int64_t integer = 0;
  double real = 0;

  bool is_symbol(std::string_view symbol) const { return type == TokenType::symbol && text == symbol; }
  bool is_name(std::string_view name) const { return type == TokenType::name && text == name; }
};

// Line ends become \n, and one at the end is dropped. `source` is valid UTF-8.
std::string normalize_source(std::string_view source);

// Throws SyntaxFailure. The last token is of type `end`.
std::vector<Token> tokenize(std::string_view normalized);

}  // namespace bolide::jinja
