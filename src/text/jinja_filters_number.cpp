// Filters that make numbers, or text of numbers.
#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "text/jinja_filters.h"
#include "text/jinja_operators.h"
#include "text/jinja_text.h"

namespace bolide::jinja {
namespace {

// int(text, base) of Python for texts: blanks around, a sign, underscores between digits, a prefix that agrees with the base.
std::optional<int64_t> integer_in(std::string_view text, int64_t base) {
  text = strip(text, Side::both);
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  const std::string prefix = lower(text.substr(0, std::min<size_t>(2, text.size())));
  const int64_t prefixed = prefix == "0x" ? 16 : prefix == "0o" ? 8 : prefix == "0b" ? 2 : 0;
  if (prefixed && (base == prefixed || base == 0)) {
    text.remove_prefix(2);
    base = prefixed;
    if (text.starts_with('_')) text.remove_prefix(1);
  }
  std::string digits = negative ? "-" : "";
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '_' && i > 0 && i + 1 < text.size() && text[i - 1] != '_') continue;
    digits += text[i];
  }
  if (base == 0) base = 10;
  if (text.empty() || text[0] == '-') return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, static_cast<int>(base));
  if (error == std::errc::result_out_of_range) fail("an integer is beyond 64 bits");
  return error == std::errc() && end == digits.data() + digits.size() ? std::optional(value) : std::nullopt;
}

std::optional<double> real_in(std::string_view text) {
  std::string plain(strip(text, Side::both));
  const std::string word = lower(std::string_view(plain).substr(plain.starts_with('-') || plain.starts_with('+') ? 1 : 0));
  const double sign = plain.starts_with('-') ? -1 : 1;
  if (word == "inf" || word == "infinity") return sign * std::numeric_limits<double>::infinity();
  if (word == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (plain.empty() || plain.find_first_not_of("+-0123456789.eE_") != std::string::npos) return std::nullopt;
  for (size_t i = plain.find('_'); i != std::string::npos; i = plain.find('_', i)) {
    const auto digit = [&](size_t at) { return at < plain.size() && plain[at] >= '0' && plain[at] <= '9'; };
    if (i == 0 || !digit(i - 1) || !digit(i + 1)) return std::nullopt;
    plain.erase(i, 1);
  }
  char* end = nullptr;
  const double value = std::strtod(plain.c_str(), &end);
  return end == plain.c_str() + plain.size() ? std::optional(value) : std::nullopt;
}

std::optional<int64_t> whole_of(double value) {
  if (!std::isfinite(value)) return std::nullopt;
  if (!(std::abs(value) < 9.2e18)) fail("an integer is beyond 64 bits");
  return static_cast<int64_t>(value);
}

Value int_filter(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters parameters("int", arguments, {"default", "base"});
  if (input.is_undefined()) fail_undefined(input);
  const auto base = parameters.value(1, 10).as_integer();
  std::optional<int64_t> out = input.as_integer();
  if (const double* real = input.real()) out = whole_of(*real);
  if (const std::string* text = input.text()) {
    if (base && (*base == 0 || (*base >= 2 && *base <= 36))) out = integer_in(*text, *base);
    if (const auto real = out ? std::nullopt : real_in(*text)) out = whole_of(*real);
  }
  return out ? Value(*out) : parameters.value(0, 0);
}

Value float_filter(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters parameters("float", arguments, {"default"});
  if (input.is_undefined()) fail_undefined(input);
  const auto out = input.text() ? real_in(*input.text()) : input.as_number();
  return out ? Value(*out) : parameters.value(0, 0.0);
}

Value abs_filter(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters none("abs", arguments, {});
  if (const double* real = input.real()) return std::abs(*real);
  if (const auto whole = input.as_integer()) return *whole < 0 ? negate(*whole) : Value(*whole);
  if (input.is_undefined()) fail_undefined(input);
  fail(fmt::format("bad operand type for abs(): '{}'", input.type_name()));
}

// Python's round(): half to even, on the exact decimal value, which is what printf does, too.
double rounded(double value, int64_t digits) {
  if (!std::isfinite(value)) return value;
  if (digits > 300) return value;
  if (digits >= 0) return std::strtod(fmt::format("{:.{}f}", value, digits).c_str(), nullptr);
  const double unit = std::pow(10.0, static_cast<double>(std::min<int64_t>(-digits, 400)));
  return std::isinf(unit) ? std::copysign(0.0, value) : std::nearbyint(value / unit) * unit;
}

int64_t rounded_integer(int64_t value, int64_t digits) {
  if (digits >= 0) return value;
  if (digits < -18) return 0;
  int64_t unit = 1;
  for (int64_t i = digits; i < 0; ++i) unit *= 10;
  const int64_t rest = (value % unit + unit) % unit, base = value - rest;
  const bool up = rest * 2 > unit || (rest * 2 == unit && (base / unit) % 2 != 0);
  return up ? base + unit : base;
}

Value round_filter(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters parameters("round", arguments, {"precision", "method"});
  const bool to_integer = parameters.given(0) && parameters[0]->is_none();  // as Python's round(x, None)
  const int64_t precision = to_integer ? 0 : parameters.integer(0, 0);
  const std::string method = parameters.text(1, "common");
  if (method != "common" && method != "ceil" && method != "floor") fail("method must be common, ceil or floor");
  if (input.is_undefined()) fail_undefined(input);
  const auto number = input.as_number();
  if (!number) fail(fmt::format("type {} cannot be rounded", input.type_name()));
  if (method == "common") {
    if (const auto whole = input.as_integer()) return rounded_integer(*whole, precision);
    if (!to_integer) return rounded(*number, precision);
    const auto whole = whole_of(rounded(*number, 0));
    if (!whole) fail("infinity and NaN are no integers");
    return *whole;
  }
  if (to_integer) fail("round(none) goes with the method 'common' only");
  const double unit = std::pow(10.0, static_cast<double>(precision));
  const double scaled = method == "ceil" ? std::ceil(*number * unit) : std::floor(*number * unit);
  return scaled / unit;
}

Value file_size(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters parameters("filesizeformat", arguments, {"binary"});
  const bool binary = parameters.truth(0, false);
  const auto number = input.text() ? real_in(*input.text()) : input.as_number();
  if (!number) fail(fmt::format("filesizeformat wants a number, not {}", input.type_name()));
  const double bytes = *number, base = binary ? 1024 : 1000;
  if (bytes == 1) return "1 Byte";
  if (bytes < base) return Value(fmt::format("{} Bytes", static_cast<int64_t>(bytes)));
  static constexpr std::string_view kPrefixes = "kMGTPEZY";
  double unit = base;
  size_t which = 0;
  while (which + 1 < kPrefixes.size() && bytes >= unit * base) {
    unit *= base;
    ++which;
  }
  const char prefix = binary && which == 0 ? 'K' : kPrefixes[which];
  return Value(fmt::format("{:.1f} {}{}", bytes / unit, prefix, binary ? "iB" : "B"));
}

}  // namespace

FilterList number_filters() {
  static constexpr FilterEntry kEntries[] = {
      {"abs", abs_filter}, {"filesizeformat", file_size}, {"float", float_filter}, {"int", int_filter}, {"round", round_filter}};
  return kEntries;
}

}  // namespace bolide::jinja
