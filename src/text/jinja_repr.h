// Values as text: Python's str() and repr(), json.dumps, and the two kinds of formatting.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "text/jinja_value.h"

namespace bolide::jinja {

// str(value); undefined is empty. Throws Failure for what Python shows as an address in memory.
std::string text_of(const Value& value);
std::string repr_of(const Value& value);
// The shortest decimal that reads back as this number, in Python's form: 1.0, 1e+16, inf.
std::string real_text(double value);
// 'it' or "it's", control and other unprintable characters escaped.
std::string quoted_text(std::string_view text);

struct JsonOptions {
  bool ascii = false, sort_keys = false;
  bool multi_line = false;  // with `indent` once per level
  std::string indent;
  std::string item_separator = ", ", key_separator = ": ";
};
// json.dumps. Throws Failure for values that JSON has no form for.
std::string json_of(const Value& value, const JsonOptions& options);

// Throws Failure for integers beyond 64 bits, and for nesting deeper than kMaxDataDepth.
Value value_of(const nlohmann::ordered_json& json);

// "%s and %5.2f" % arguments. Throws Failure as Python would raise.
std::string format_percent(std::string_view format, const Value& arguments);
// "{} and {name:>10}".format(...). Attributes and items in fields go through the runtime.
std::string format_braces(Runtime& runtime, std::string_view format, const Arguments& arguments);

// HTML's five characters as entities.
std::string escape_html(std::string_view text);

}  // namespace bolide::jinja
