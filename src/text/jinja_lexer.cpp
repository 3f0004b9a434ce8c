#include "text/jinja_lexer.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <limits>

#include "text/jinja_literals.h"
#include "text/jinja_text.h"
#include "text/unicode.h"

namespace bolide::jinja {
namespace {

constexpr size_t kNone = std::string_view::npos;

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    while (position_ < source_.size()) root();
    add(TokenType::end, position_);
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(std::string text, size_t position) const { throw SyntaxFailure{std::move(text), static_cast<uint32_t>(position)}; }

  Token& add(TokenType type, size_t position, std::string_view text = {}) {
    tokens_.push_back({type, static_cast<uint32_t>(position), std::string(text)});
    return tokens_.back();
  }

  char at(size_t position) const { return position < source_.size() ? source_[position] : '\0'; }
  bool starts(size_t position, std::string_view with) const { return source_.substr(std::min(position, source_.size())).starts_with(with); }

  size_t skip_blanks(size_t position) const {
    return source_.size() - strip(source_.substr(std::min(position, source_.size())), Side::left).size();
  }

  // Text up to the next {{, {% or {#, then what that begins.
  void root() {
    size_t open = position_;
    do open = source_.find('{', open);
    while (open != kNone && at(open + 1) != '{' && at(open + 1) != '%' && at(open + 1) != '#' && ++open);
    if (open == kNone) {
      add_data(source_.substr(position_));
      position_ = source_.size();
      return;
    }
    const char kind = at(open + 1);
    const char sign = at(open + 2) == '-' || at(open + 2) == '+' ? at(open + 2) : '\0';
    add_data(text_before_tag(source_.substr(position_, open - position_), sign, kind != '{'));
    position_ = open + 2 + (sign ? 1 : 0);
    line_starting_ = false;
    if (kind == '#')
      comment(open);
    else if (kind == '%' && begins_raw())
      raw(open);
    else
      tag(open, kind == '{');
  }

  void add_data(std::string_view text) {
    if (!text.empty()) add(TokenType::data, position_, text);
  }

  // What whitespace control leaves of the text in front of a tag.
  std::string_view text_before_tag(std::string_view text, char sign, bool strips_line) const {
    if (sign == '-') return strip(text, Side::right);
    if (sign == '+' || !strips_line) return text;
    const size_t feed = text.rfind('\n');
    const size_t line = feed == kNone ? 0 : feed + 1;
    const bool at_line_start = feed != kNone || line_starting_;
    return at_line_start && strip(text.substr(line), Side::left).empty() ? text.substr(0, line) : text;
  }

  // Behind a closing delimiter that ends at `position`; `sign` is what stood in front of it.
  void after_tag(size_t position, char sign, bool trims_line) {
    const size_t begin = position;
    if (sign == '-')
      position = skip_blanks(position);
    else if (sign != '+' && trims_line && at(position) == '\n')
      ++position;
    line_starting_ = position > begin && at(position - 1) == '\n';
    position_ = position;
  }

  void comment(size_t open) {
    const size_t close = source_.find("#}", position_);
    if (close == kNone) fail("a comment is not closed by '#}'", open);
    const char before = close > position_ ? at(close - 1) : '\0';
    after_tag(close + 2, before, true);
  }

  bool begins_raw() {
    const size_t word = skip_blanks(position_);
    if (!starts(word, "raw")) return false;
    const size_t close = skip_blanks(word + 3);
    if (starts(close, "-%}")) {
      after_tag(close + 3, '-', false);
    } else if (starts(close, "%}")) {
      after_tag(close + 2, '\0', false);
    } else {
      return false;
    }
    return true;
  }

  void raw(size_t open) {
    for (size_t end = source_.find("{%", position_); end != kNone; end = source_.find("{%", end + 1)) {
      const char sign = at(end + 2) == '-' || at(end + 2) == '+' ? at(end + 2) : '\0';
      const size_t word = skip_blanks(end + 2 + (sign ? 1 : 0));
      if (!starts(word, "endraw")) continue;
      size_t close = skip_blanks(word + 6);
      const char last = starts(close, "-%}") || starts(close, "+%}") ? at(close) : '\0';
      if (last) ++close;
      if (!starts(close, "%}")) continue;
      add_data(text_before_tag(source_.substr(position_, end - position_), sign, true));
      after_tag(close + 2, last, true);
      return;
    }
    fail("a raw block is not closed by '{% endraw %}'", open);
  }

  // Everything between {{ and }} or {% and %}.
  void tag(size_t open, bool prints) {
    add(prints ? TokenType::print_begin : TokenType::block_begin, open);
    std::string brackets;  // that are open
    for (;;) {
      position_ = skip_blanks(position_);
      if (brackets.empty() && ends_tag(prints)) return;
      if (position_ >= source_.size()) fail(prints ? "'{{' is not closed by '}}'" : "'{%' is not closed by '%}'", open);
      const char c = at(position_);
      if (c >= '0' && c <= '9')
        number();
      else if (c == '\'' || c == '"')
        text(c);
      else if (!name())
        symbol(brackets);
    }
  }

  bool ends_tag(bool prints) {
    const std::string_view close = prints ? "}}" : "%}";
    const char sign = at(position_) == '-' || (!prints && at(position_) == '+') ? at(position_) : '\0';
    const size_t end = position_ + (sign ? 1 : 0);
    if (!starts(end, close)) return false;
    add(prints ? TokenType::print_end : TokenType::block_end, position_);
    after_tag(end + 2, sign, !prints);
    return true;
  }

  void number() {
    const size_t begin = position_;
    const bool after_dot = begin > 0 && at(begin - 1) == '.';
    const NumberLiteral literal = read_number(source_.substr(begin), !after_dot);
    position_ += literal.size;
    if (literal.too_large) fail(fmt::format("the number {} is too large", source_.substr(begin, literal.size)), begin);
    Token& token = add(literal.is_real ? TokenType::real : TokenType::integer, begin);
    token.integer = literal.integer;
    token.real = literal.real;
  }

  void text(char quote) {
    const size_t begin = position_++;
    while (position_ < source_.size() && at(position_) != quote) position_ += at(position_) == '\\' ? 2 : 1;
    if (position_ >= source_.size()) fail(fmt::format("a string is not closed by {}", quote), begin);
    const UnescapedText unescaped = unescape_literal(source_.substr(begin + 1, position_ - begin - 1));
    if (!unescaped.error.empty()) fail(unescaped.error, begin + 1 + unescaped.position);
    ++position_;
    add(TokenType::text, begin, unescaped.text);
  }

  bool name() {
    const size_t begin = position_;
    size_t end = begin;
    while (end < source_.size()) {
      size_t next = end;
      if (!is_word(next_code_point(source_, next))) break;
      end = next;
    }
    if (end == begin) return false;
    position_ = end;
    add(TokenType::name, begin, source_.substr(begin, end - begin));
    return true;
  }

  void symbol(std::string& brackets) {
    static constexpr std::array<std::string_view, 6> kLong{"**", "//", "==", "!=", ">=", "<="};
    static constexpr std::string_view kShort = "+-/*%~[](){}><=.:|,;";
    const size_t begin = position_;
    std::string_view found;
    for (const std::string_view symbol : kLong) {
      if (starts(begin, symbol)) found = symbol;
    }
    if (found.empty() && kShort.find(at(begin)) != kNone) found = source_.substr(begin, 1);
    if (found.empty()) {
      const size_t next = next_character(source_, begin);
      fail(fmt::format("unexpected character '{}'", source_.substr(begin, next - begin)), begin);
    }
    balance(found, brackets, begin);
    position_ += found.size();
    add(TokenType::symbol, begin, found);
  }

  void balance(std::string_view symbol, std::string& brackets, size_t position) const {
    static constexpr std::string_view kOpen = "([{", kClose = ")]}";
    if (const size_t which = kOpen.find(symbol); which != kNone) brackets += kClose[which];
    if (kClose.find(symbol) == kNone) return;
    if (brackets.empty()) fail(fmt::format("unexpected '{}'", symbol), position);
    if (brackets.back() != symbol[0]) fail(fmt::format("unexpected '{}', expected '{}'", symbol, brackets.back()), position);
    brackets.pop_back();
  }

  std::string_view source_;
  size_t position_ = 0;
  bool line_starting_ = true;  // what was read last ended a line
  std::vector<Token> tokens_;
};

}  // namespace

std::string normalize_source(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else if (i + 1 == source.size() || source[i + 1] != '\n') {
      out += '\n';
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

std::vector<Token> tokenize(std::string_view normalized) {
  if (normalized.size() > std::numeric_limits<uint32_t>::max()) throw SyntaxFailure{"the template is larger than 4 GiB", 0};
  return Lexer(normalized).run();
}

}  // namespace bolide::jinja
