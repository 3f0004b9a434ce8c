#include "cli/values.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <random>

#include "core/error.h"
#include "core/messages.h"

namespace bolide {
namespace {

[[noreturn]] void refuse(const std::string& flag, const std::string& text, const char* form) {
  throw UsageError(fmt::format("{} {} is not {}", flag, in_quotes(text, 80), form));
}

// Reads a number at `position` and moves on; nothing when there is none or it does not fit.
template <typename T>
std::optional<T> take_number(const std::string& text, size_t& position) {
  T value{};
  const auto [end, error] = std::from_chars(text.data() + position, text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  position = static_cast<size_t>(end - text.data());
  return value;
}

bool is_separator(char c) { return c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == ',')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

void append_utf8(std::string& out, uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))};
  } else if (c < 0x10000) {
    out += {static_cast<char>(0xE0 | (c >> 12)), static_cast<char>(0x80 | ((c >> 6) & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
  } else {
    out += {static_cast<char>(0xF0 | (c >> 18)), static_cast<char>(0x80 | ((c >> 12) & 0x3F)), static_cast<char>(0x80 | ((c >> 6) & 0x3F)),
            static_cast<char>(0x80 | (c & 0x3F))};
  }
}

// `digits` hexadecimal digits at `position`, or nothing.
std::optional<uint32_t> hex_at(const std::string& text, size_t position, size_t digits) {
  if (position + digits > text.size()) return std::nullopt;
  uint32_t value = 0;
  const char* first = text.data() + position;
  const auto [end, error] = std::from_chars(first, first + digits, value, 16);
  if (error != std::errc() || end != first + digits) return std::nullopt;
  return value;
}

// \uXXXX at `i` (the backslash), one or a surrogate pair; advances past it. False when it is not one.
bool unescape_unicode(const std::string& text, size_t& i, std::string& out) {
  const auto high = hex_at(text, i + 2, 4);
  if (!high) return false;
  const bool pair = *high >= 0xD800 && *high < 0xDC00 && text.compare(i + 6, 2, "\\u") == 0;
  const auto low = pair ? hex_at(text, i + 8, 4) : std::nullopt;
  if (low && *low >= 0xDC00 && *low < 0xE000) {
    append_utf8(out, 0x10000 + ((*high - 0xD800) << 10) + (*low - 0xDC00));
    i += 12;
    return true;
  }
  append_utf8(out, *high);  // an unpaired surrogate is found by the UTF-8 check that follows
  i += 6;
  return true;
}

}  // namespace

int64_t parse_bytes(const std::string& flag, const std::string& text) {
  static constexpr const char* form = "a size such as 512M, 1.5GiB or 2000000";
  size_t end = 0;
  const auto number = take_number<double>(text, end);
  if (!number || !(*number >= 0)) refuse(flag, text, form);
  std::string unit = text.substr(end);
  if (unit.ends_with("iB"))
    unit.erase(unit.size() - 2);
  else if (unit.ends_with("B") || unit.ends_with("b"))
    unit.pop_back();
  double factor = 1;
  if (!unit.empty()) {
    const size_t power = std::string("KMGT").find(static_cast<char>(std::toupper(static_cast<unsigned char>(unit[0]))));
    if (unit.size() != 1 || power == std::string::npos) refuse(flag, text, form);
    factor = std::ldexp(1.0, 10 * (static_cast<int>(power) + 1));
  }
  const double bytes = *number * factor;
  if (!(bytes < 0x1p62)) refuse(flag, text, form);
  return static_cast<int64_t>(bytes);
}

std::vector<int32_t> parse_ids(const std::string& flag, const std::string& text) {
  static constexpr const char* form = "a list of token ids such as 1,2,3";
  size_t i = 0, end = text.size();
  while (i < end && is_separator(text[i])) ++i;
  while (end > i && is_separator(text[end - 1])) --end;
  if (end - i >= 2 && text[i] == '[' && text[end - 1] == ']') ++i, --end;
  std::vector<int32_t> ids;
  while (true) {
    while (i < end && is_separator(text[i])) ++i;
    if (i >= end) return ids;
    const auto id = take_number<int32_t>(text, i);
    if (!id || *id < 0 || (i < end && !is_separator(text[i]))) refuse(flag, text, form);
    ids.push_back(*id);
  }
}

std::vector<LogitBias> parse_logit_biases(const std::string& flag, const std::string& text) {
  static constexpr const char* form = "ID:BIAS, ID+BIAS or ID-BIAS, such as 17:-2.5 (or 17:-inf: never)";
  std::vector<LogitBias> biases;
  for (const std::string& part : split(text)) {
    size_t i = 0;
    const auto id = take_number<int32_t>(part, i);
    if (!id || *id < 0 || i >= part.size() || std::string(":+-").find(part[i]) == std::string::npos) refuse(flag, text, form);
    if (part[i] != '-') ++i;  // from_chars reads a minus, and no plus
    if (i < part.size() && part[i] == '+') ++i;
    const auto bias = take_number<float>(part, i);
    if (!bias || i != part.size() || !(*bias < std::numeric_limits<float>::infinity())) refuse(flag, text, form);
    biases.push_back({*id, *bias});
  }
  return biases;
}

std::vector<int32_t> parse_counts(const std::string& flag, const std::string& text, int32_t least) {
  static constexpr const char* form = "a list of counts such as 512, 128,512 or 0-4096+1024 (first-last+step, or *factor)";
  constexpr size_t kMost = 1000;
  std::vector<int32_t> counts;
  for (const std::string& part : split(text)) {
    size_t i = 0;
    const auto first = take_number<int32_t>(part, i);
    if (!first || *first < least) refuse(flag, text, form);
    int64_t last = *first, step = 1;
    bool multiply = false;
    if (i < part.size() && part[i] == '-') {
      const auto to = take_number<int32_t>(part, ++i);
      if (!to || *to < *first) refuse(flag, text, form);
      last = *to;
      if (i < part.size() && (part[i] == '+' || part[i] == '*')) {
        multiply = part[i] == '*';
        const auto by = take_number<int32_t>(part, ++i);
        if (!by || *by < (multiply ? 2 : 1) || (multiply && *first == 0)) refuse(flag, text, form);
        step = *by;
      }
    }
    if (i != part.size()) refuse(flag, text, form);
    for (int64_t count = *first; count <= last; count = multiply ? count * step : count + step) {
      if (counts.size() == kMost) refuse(flag, text, "a list of at most 1000 counts");
      counts.push_back(static_cast<int32_t>(count));
    }
  }
  return counts;
}

std::optional<DType> parse_dtype_flag(const std::string& flag, const std::string& text) {
  if (text == "auto") return std::nullopt;
  const auto dtype = parse_dtype(text);
  const bool kv = flag == "--kv-cache-dtype";  // the only place for fp8
  if (!dtype || (*dtype == DType::f8 && !kv))
    refuse(flag, text, kv ? "auto, bfloat16, float16, float32 or fp8" : "auto, bfloat16, float16 or float32");
  return dtype;
}

uint64_t parse_seed(const std::optional<std::string>& text) {
  if (!text || *text == "-1") return std::random_device{}();
  size_t i = 0;
  const auto seed = take_number<uint64_t>(*text, i);
  if (!seed || i != text->size()) refuse("--seed", *text, "a whole number from 0 to 2^64 - 1, or -1 for a random one");
  return *seed;
}

std::string unescape(const std::string& text) {
  static constexpr std::string_view letters = "ntr\\\"'0", meanings{"\n\t\r\\\"'\0", 7};
  std::string out;
  size_t i = 0;
  while (i < text.size()) {
    const char next = text[i] == '\\' && i + 1 < text.size() ? text[i + 1] : '\0';
    const size_t simple = next ? letters.find(next) : std::string_view::npos;
    if (simple != std::string_view::npos) {
      out += meanings[simple];
      i += 2;
    } else if (const auto byte = next == 'x' ? hex_at(text, i + 2, 2) : std::nullopt) {
      out += static_cast<char>(*byte);
      i += 4;
    } else if (next != 'u' || !unescape_unicode(text, i, out)) {
      out += text[i++];
    }
  }
  return out;
}

}  // namespace bolide
