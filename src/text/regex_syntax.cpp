#include "text/regex_syntax.h"

#include <optional>

#include "core/error.h"

namespace bolide {
namespace {

// The inside of character classes.
constexpr std::string_view kSpace = R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNotSpace =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e})"
    R"(\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";
constexpr std::string_view kWord =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  std::string run() {
    while (pos_ < in_.size()) {
      switch (in_[pos_]) {
        case '\\':
          escape(false);
          break;
        case '[':
          character_class();
          break;
        case '(':
          group();
          break;
        case '{':
          interval();
          break;
        default:
          out_ += in_[pos_++];
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    throw Error(fmt::format("{} at offset {} of the pattern is not supported", what, pos_));
  }
  char peek(size_t ahead) const { return pos_ + ahead < in_.size() ? in_[pos_ + ahead] : '\0'; }
  bool starts(std::string_view what) const { return in_.substr(pos_).starts_with(what); }
  void copy(size_t n) {
    out_.append(in_.substr(pos_, n));
    pos_ += n;
  }
  void replace(size_t n, std::string_view by) {
    out_.append(by);
    pos_ += n;
  }
  void replace_class(bool inside, std::string_view open, std::string_view ranges) {
    if (!inside) out_.append(open);
    out_.append(ranges);
    if (!inside) out_ += ']';
    pos_ += 2;
  }

  void escape(bool inside) {
    const char c = peek(1);
    if (pos_ + 1 >= in_.size()) refuse("a lone backslash");
    switch (c) {
      case 's':
        return replace_class(inside, "[", kSpace);
      case 'S':
        return replace_class(inside, "[", kNotSpace);
      case 'w':
        return replace_class(inside, "[", kWord);
      case 'W':
        if (inside) refuse("\\W inside a character class");
        return replace_class(false, "[^", kWord);
      case 'd':
        return replace(2, "\\p{Nd}");
      case 'D':
        return replace(2, "\\P{Nd}");
      case 'b':
      case 'B':
        return word_boundary(inside);
      case 'p':
      case 'P':
        return property();
      case 'x':
        return hexadecimal();
      case 'u':
        return unicode_escape();
      case 'A':
      case 'z':
      case 'Z':
        if (inside) refuse("an anchor inside a character class");
        return copy(2);
      case 't':
      case 'n':
      case 'r':
      case 'f':
      case 'a':
      case 'e':
        return copy(2);
      case 'v':
        return replace(2, "\\x0b");
      default:
        break;
    }
    if (is_letter(c) || is_digit(c)) refuse(fmt::format("\\{}", c));
    if (static_cast<unsigned char>(c) >= 0x80) return replace(1, "");
    copy(2);
  }

  void word_boundary(bool inside) {
    if (inside) refuse("\\b inside a character class");
    const std::string word = fmt::format("[{}]", kWord);
    const bool boundary = peek(1) == 'b';
    out_ += boundary ? fmt::format("(?:(?<={0})(?!{0})|(?<!{0})(?={0}))", word) : fmt::format("(?:(?<={0})(?={0})|(?<!{0})(?!{0}))", word);
    pos_ += 2;
  }

  // General categories are named alike; what else is a name must be a script, by the property Script (PCRE2 would take Script_Extensions).
  void property() {
    const size_t close = in_.find('}', pos_);
    if (peek(2) != '{' || close == std::string_view::npos) refuse("\\p without {NAME}");
    std::string_view name = in_.substr(pos_ + 3, close - pos_ - 3);
    const bool negated = name.starts_with('^');
    if (negated) name.remove_prefix(1);
    if (name.empty() || name.size() > 40) refuse("a property name of this length");
    for (const char c : name) {
      if (!is_letter(c) && c != '_' && c != '&') refuse("this property name");
    }
    out_ += in_.substr(pos_, 2);
    out_ += negated ? "{^" : "{";
    if (name.size() > 2 && name != "Any") out_ += "sc:";
    out_ += name;
    out_ += '}';
    pos_ = close + 1;
  }

  void hexadecimal() {
    if (peek(2) == '{') {
      const size_t close = in_.find('}', pos_);
      if (close == std::string_view::npos || close - pos_ > 12) refuse("\\x{ without a code point");
      return copy(close + 1 - pos_);
    }
    if (!is_hex(peek(2)) || !is_hex(peek(3)) || in_[pos_ + 2] >= '8') refuse("\\x without two digits below 80");
    copy(4);
  }

  void unicode_escape() {
    for (size_t i = 2; i < 6; ++i) {
      if (!is_hex(peek(i))) refuse("\\u without four digits");
    }
    out_ += fmt::format("\\x{{{}}}", in_.substr(pos_ + 2, 4));
    pos_ += 6;
  }

  void character_class() {
    copy(1);
    if (peek(0) == '^') copy(1);
    if (peek(0) == ']') replace(1, "\\]");
    while (pos_ < in_.size() && in_[pos_] != ']') {
      if (in_[pos_] == '[') refuse("a character class inside a character class");
      if (starts("&&")) refuse("class intersection &&");
      if (in_[pos_] == '\\') {
        escape(true);
      } else {
        copy(1);
      }
    }
    if (pos_ == in_.size()) refuse("a character class without its ]");
    copy(1);
  }

  void group() {
    if (starts("(*")) refuse("(*");
    if (!starts("(?")) return copy(1);
    for (const std::string_view known : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:"}) {
      if (starts(known)) return copy(known.size());
    }
    // Later in the pattern Oniguruma and PCRE2 disagree about what the option reaches.
    if (pos_ == 0 && starts("(?i)")) return copy(4);
    refuse(in_.substr(pos_, 4));
  }

  // {n}, {n,}, {,m}, {n,m} and what follows; another brace is a character.
  void interval() {
    size_t end = pos_ + 1;
    const auto number = [&]() -> std::optional<int> {
      int value = 0;
      const size_t begin = end;
      while (end < in_.size() && is_digit(in_[end]) && end - begin < 6) value = value * 10 + (in_[end++] - '0');
      return end > begin ? std::optional(value) : std::nullopt;
    };
    const std::optional<int> low = number();
    const bool comma = end < in_.size() && in_[end] == ',';
    if (comma) ++end;
    const std::optional<int> high = comma ? number() : low;
    if (end >= in_.size() || in_[end] != '}' || (!low && !high)) return replace(1, "\\{");
    ++end;
    const char next = end < in_.size() ? in_[end] : '\0';
    if (next == '?' && !comma) refuse("{n}?");
    if (next == '+') {
      if (low.value_or(0) > 1 || high == 0) refuse("{n,m}+ with n above 1");
      pos_ = end + 1;
      out_ += low.value_or(0) == 0 ? '*' : '+';
      return;
    }
    out_ += fmt::format("{{{}{}{}}}", low.value_or(0), comma ? "," : "", comma && high ? std::to_string(*high) : "");
    pos_ = end;
  }

  std::string_view in_;
  size_t pos_ = 0;
  std::string out_;
};

}  // namespace

std::string translate_oniguruma(std::string_view pattern) { return Translator(pattern).run(); }

std::string escape_pattern(std::string_view literal) {
  std::string out;
  for (const char c : literal) {
    if (static_cast<unsigned char>(c) < 0x80 && !is_letter(c) && !is_digit(c) && static_cast<unsigned char>(c) > 0x20) out += '\\';
    out += c;
  }
  return out;
}

}  // namespace bolide
