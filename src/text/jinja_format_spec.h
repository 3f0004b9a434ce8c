// What the two ways of formatting, "%5.2f" % x and "{:>5.2f}".format(x), have in common: fields of a width, numbers and their signs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "text/jinja_value.h"

namespace bolide::jinja {

constexpr int kMaxWidth = 1 << 20;  // of a field, and of the digits behind a point

// What both languages can say about a field.
struct Spec {
  std::string_view fill = " ";
  char align = 0;  // < > ^ =
  char sign = '-';
  bool alternate = false, grouped = false;
  char group = ',';
  int width = 0, precision = -1;
  char type = 0;
};

// `text` filled up to the width; `usual` is the alignment where the spec names none.
std::string pad(std::string text, const Spec& spec, char usual);
// An integer in the base of the spec's type, with sign, prefix, groups and padding.
std::string integer_text(int64_t value, const Spec& spec);
// A float in the form of the spec's type (f, e, g, %, or none).
std::string real_text_of(double value, const Spec& spec);
// The first `precision` characters; all where it is negative.
std::string cut(std::string text, int precision);
// The character of a code point, or a string of one. Throws Failure for anything else.
std::string character_of(const Value& value);
// Digits at `position`, which moves behind them. Throws Failure above kMaxWidth.
int read_count(std::string_view text, size_t& position);

}  // namespace bolide::jinja
