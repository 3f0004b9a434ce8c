// Finds stop strings in streamed text, over token borders, without leaking a stop string's head and without holding back more than
// the longest suffix that begins one. The earliest match is the one that is complete first, the longest of those that end at the same
// byte: what is found does not depend on how the text was cut into pieces.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bolide {

class StopStrings {
 public:
  // `keep_match`: the matched stop string stays in the text (--include-stop). Empty strings are refused with UsageError.
  StopStrings(std::vector<std::string> stops, bool keep_match);

  struct Result {
    std::string text;                    // safe to show now
    std::optional<std::string> matched;  // set once: the earliest match; nothing may be pushed afterwards
  };
  Result push(std::string_view text);
  std::string finish();  // what was held back when the sequence ends for another reason

 private:
  // One stop string and how much of it the text seen so far ends in (Knuth, Morris and Pratt, 1977).
  struct Stop {
    std::string text;
    std::vector<size_t> border;  // [n + 1] longest proper border of each prefix
    size_t matched = 0;          // bytes
  };
  std::vector<Stop> stops_;
  bool keep_match_;
  std::string held_;
};

}  // namespace bolide
