#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "text/jinja_format_spec.h"
#include "text/jinja_repr.h"
#include "text/jinja_text.h"
#include "text/unicode.h"

namespace bolide::jinja {

std::string pad(std::string text, const Spec& spec, char usual) {
  const int64_t missing = spec.width - count_characters(text);
  if (missing <= 0) return text;
  const char align = spec.align ? spec.align : usual;
  const int64_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  require_size(text.size() + static_cast<size_t>(missing) * spec.fill.size());
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += spec.fill;
  out += text;
  for (int64_t i = left; i < missing; ++i) out += spec.fill;
  return out;
}

namespace {

std::string group_digits(const std::string& digits, char separator, size_t every) {
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % every == 0) out += separator;
    out += digits[i];
  }
  return out;
}

std::string sign_of(bool negative, const Spec& spec) { return negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign); }

// Sign, prefix and digits padded as numbers are; '=' fills behind the sign.
std::string pad_number(const std::string& sign, const std::string& digits, const Spec& spec) {
  if (spec.align != '=') return pad(sign + digits, spec, '>');
  Spec inner = spec;
  inner.align = '>';
  inner.width = spec.width - static_cast<int>(sign.size());
  return sign + pad(digits, inner, '>');
}

std::string real_digits(double magnitude, const Spec& spec) {
  const int precision = spec.precision < 0 ? 6 : spec.precision;
  if (std::isnan(magnitude)) return "nan";
  if (std::isinf(magnitude)) return "inf";
  std::string digits;
  switch (spec.type) {
    case 'f':
    case 'F':
      digits = fmt::format("{:.{}f}", magnitude, precision);
      break;
    case '%':
      return fmt::format("{:.{}f}", magnitude * 100, precision) + "%";
    case 'e':
      digits = fmt::format("{:.{}e}", magnitude, precision);
      break;
    case 'E':
      digits = fmt::format("{:.{}E}", magnitude, precision);
      break;
    case 'g':
      digits = fmt::format("{:.{}g}", magnitude, precision == 0 ? 1 : precision);
      break;
    case 'G':
      digits = fmt::format("{:.{}G}", magnitude, precision == 0 ? 1 : precision);
      break;
    default:
      if (spec.precision < 0) return real_text(magnitude);
      digits = fmt::format("{:.{}g}", magnitude, precision == 0 ? 1 : precision);
      if (digits.find_first_of(".en") == std::string::npos) digits += ".0";
  }
  return digits;
}

}  // namespace

std::string integer_text(int64_t value, const Spec& spec) {
  const bool negative = value < 0;
  const uint64_t magnitude = negative ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  std::string_view prefix;
  std::string digits;
  switch (spec.type) {
    case 'x':
      digits = fmt::format("{:x}", magnitude), prefix = "0x";
      break;
    case 'X':
      digits = fmt::format("{:X}", magnitude), prefix = "0X";
      break;
    case 'o':
      digits = fmt::format("{:o}", magnitude), prefix = "0o";
      break;
    case 'b':
      digits = fmt::format("{:b}", magnitude), prefix = "0b";
      break;
    default:
      digits = std::to_string(magnitude);
  }
  if (spec.precision > static_cast<int>(digits.size())) digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
  if (spec.grouped) digits = group_digits(digits, spec.group, prefix.empty() ? 3 : 4);
  std::string sign = sign_of(negative, spec);
  if (spec.alternate) sign += prefix;
  return pad_number(sign, digits, spec);
}

std::string real_text_of(double value, const Spec& spec) {
  std::string digits = real_digits(std::abs(value), spec);
  if (spec.grouped) {
    const size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
    digits = group_digits(digits.substr(0, whole), spec.group, 3) + digits.substr(whole);
  }
  return pad_number(sign_of(std::signbit(value) && !std::isnan(value), spec), digits, spec);
}

std::string cut(std::string text, int precision) {
  if (precision >= 0) text.resize(byte_of_character(text, precision));
  return text;
}

std::string character_of(const Value& value) {
  const auto code = value.as_integer();
  if (value.text() && length_of(value) == 1) return *value.text();
  if (!code || *code < 0 || *code > 0x10FFFF || (*code >= 0xD800 && *code < 0xE000)) fail("%c requires an int or a single character");
  std::string out;
  append_code_point(out, static_cast<char32_t>(*code));
  return out;
}

int read_count(std::string_view text, size_t& position) {
  int value = 0;
  const char* begin = text.data() + position;
  const auto [end, error] = std::from_chars(begin, text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range || value > kMaxWidth) fail(fmt::format("a width or precision above {}", kMaxWidth));
  position += static_cast<size_t>(end - begin);
  return value;
}

}  // namespace bolide::jinja
