// What text is searched for: a literal or a regular expression, as {"String": ...} and {"Regex": ...} of tokenizer.json say.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/regex.h"

namespace bolide {

// A stretch of text that is a match or lies between matches.
struct Stretch {
  size_t begin, end;  // bytes
  bool is_match;
};

class Pattern {
 public:
  // An empty literal matches between all characters. Throws as Regex does.
  static Pattern literal(const std::string& text);
  static Pattern regex(std::string_view text);
  // Every single character for which it holds is a match.
  using Predicate = bool (*)(char32_t);
  static Pattern characters(Predicate holds);

  // Calls visit(range) for every match from left to right, none overlapping. An empty match right after a match does not count.
  void each_match(std::string_view text, const std::function<void(TextRange)>& visit) const;
  // The text cut into matches and what is between them; `out` is overwritten. Empty text gives one stretch that is no match.
  void cut(std::string_view text, std::vector<Stretch>& out) const;

 private:
  using Kind = std::variant<std::string, Regex, Predicate>;
  explicit Pattern(Kind kind) : kind_(std::move(kind)) {}
  Kind kind_;
};

}  // namespace bolide
