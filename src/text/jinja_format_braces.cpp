// "{:>10}".format(x)
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "text/jinja_format_spec.h"
#include "text/jinja_repr.h"
#include "text/jinja_runtime.h"
#include "text/jinja_text.h"

namespace bolide::jinja {
namespace {

// [[fill]align][sign][#][0][width][,][.precision][type]
Spec parse_spec(std::string_view text) {
  Spec spec;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  size_t position = 0;
  const size_t second = text.empty() ? 0 : next_character(text, 0);
  if (second > 0 && second < text.size() && is_align(text[second])) {
    spec.fill = text.substr(0, second);
    spec.align = text[second];
    position = second + 1;
  } else if (!text.empty() && is_align(text[0])) {
    spec.align = text[position++];
  }
  const auto take = [&](std::string_view any) { return position < text.size() && any.find(text[position]) != std::string_view::npos; };
  if (take("+- ")) spec.sign = text[position++];
  if (take("#")) spec.alternate = true, ++position;
  if (take("0")) {
    if (!spec.align) spec.align = '=', spec.fill = "0";
    ++position;
  }
  spec.width = read_count(text, position);
  if (take(",_")) spec.grouped = true, spec.group = text[position++];
  if (take(".")) {
    const size_t begin = ++position;
    spec.precision = read_count(text, position);
    if (position == begin) fail("Format specifier missing precision");
  }
  if (position < text.size()) spec.type = text[position++];
  if (position < text.size()) fail("Invalid format specifier");
  return spec;
}

std::string format_value(const Value& value, std::string_view spec_text) {
  if (spec_text.empty()) return text_of(value);
  const Spec spec = parse_spec(spec_text);
  const std::string_view reals = "eEfFgG%";
  const auto refuse = [&] { fail(fmt::format("Unknown format code '{}' for object of type '{}'", spec.type, value.type_name())); };
  if (const auto whole = value.as_integer(); whole && (!value.boolean() || spec.type)) {
    if (spec.type == 'c') return pad(character_of(value), spec, '<');
    if (spec.type && reals.find(spec.type) != std::string_view::npos) return real_text_of(static_cast<double>(*whole), spec);
    if (spec.type && std::string_view("dxXobn").find(spec.type) == std::string_view::npos) refuse();
    if (spec.precision >= 0) fail("Precision not allowed in integer format specifier");
    return integer_text(*whole, spec);
  }
  if (const double* real = value.real()) {
    if (spec.type && spec.type != 'n' && reals.find(spec.type) == std::string_view::npos) refuse();
    return real_text_of(*real, spec);
  }
  if (!value.text() && !value.boolean()) fail(fmt::format("unsupported format string passed to {}.__format__", value.type_name()));
  if (spec.type && spec.type != 's') refuse();
  if (spec.align == '=') fail("'=' alignment not allowed in string format specifier");
  return pad(cut(text_of(value), spec.precision), spec, '<');
}

class BraceFormatter {
 public:
  BraceFormatter(Runtime& runtime, const Arguments& arguments) : runtime_(runtime), arguments_(arguments) {}

  std::string run(std::string_view format, int depth = 0) {
    if (depth > 1) fail("Max string recursion exceeded");
    std::string out;
    for (size_t i = 0; i < format.size(); ++i) {
      const char c = format[i];
      if (c != '{' && c != '}') {
        out += c;
      } else if (i + 1 < format.size() && format[i + 1] == c) {
        out += c;
        ++i;
      } else if (c == '}') {
        fail("Single '}' encountered in format string");
      } else {
        const size_t close = closing(format, i);
        out += field(format.substr(i + 1, close - i - 1), depth);
        i = close;
      }
      require_size(out.size());
    }
    return out;
  }

 private:
  static size_t closing(std::string_view format, size_t open) {
    int level = 0;
    for (size_t i = open; i < format.size(); ++i) {
      if (format[i] == '{') ++level;
      if (format[i] == '}' && --level == 0) return i;
    }
    fail("expected '}' before end of string");
  }

  std::string field(std::string_view text, int depth) {
    const size_t end = std::min(text.find_first_of(":!"), text.size());
    Value value = lookup(text.substr(0, end));
    std::string_view rest = text.substr(end);
    if (rest.starts_with('!')) {
      if (rest.size() < 2 || (rest.size() > 2 && rest[2] != ':')) fail("expected ':' after conversion specifier");
      if (rest[1] != 's' && rest[1] != 'r' && rest[1] != 'a') fail(fmt::format("Unknown conversion specifier {}", rest[1]));
      value = rest[1] == 's' ? Value(text_of(value)) : Value(repr_of(value));
      rest = rest.substr(2);
    }
    const std::string spec = rest.empty() ? "" : run(rest.substr(1), depth + 1);
    return format_value(value, spec);
  }

  Value lookup(std::string_view path) {
    const size_t end = std::min(path.find_first_of(".["), path.size());
    Value value = argument(path.substr(0, end));
    for (size_t i = end; i < path.size();) {
      const bool item = path[i] == '[';
      const size_t stop = item ? path.find(']', i) : std::min(path.find_first_of(".[", i + 1), path.size());
      if (stop == std::string_view::npos) fail("Missing ']' in format string");
      const std::string_view name = path.substr(i + 1, stop - i - 1);
      const auto number = integer_in(name);
      value = !item ? runtime_.attribute(value, std::string(name)) : runtime_.item(value, number ? Value(*number) : Value(name));
      i = stop + (item ? 1 : 0);
    }
    return value;
  }

  static std::optional<int64_t> integer_in(std::string_view text) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = error == std::errc() && end == text.data() + text.size() && value >= 0;
    return whole ? std::optional(value) : std::nullopt;
  }

  Value argument(std::string_view name) {
    const auto number = name.empty() ? std::optional<int64_t>(automatic_++) : integer_in(name);
    if (number) {
      if (static_cast<uint64_t>(*number) >= arguments_.positional.size())
        fail(fmt::format("Replacement index {} out of range for positional args tuple", *number));
      return arguments_.positional[static_cast<size_t>(*number)];
    }
    for (const auto& [key, value] : arguments_.named) {
      if (key == name) return value;
    }
    fail(fmt::format("the format's name {} is not among the arguments", quoted_text(name)));
  }

  Runtime& runtime_;
  const Arguments& arguments_;
  int64_t automatic_ = 0;
};

}  // namespace

std::string format_braces(Runtime& runtime, std::string_view format, const Arguments& arguments) {
  return BraceFormatter(runtime, arguments).run(format);
}

}  // namespace bolide::jinja
