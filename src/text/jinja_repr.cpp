#include "text/jinja_repr.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "text/jinja_text.h"
#include "text/unicode.h"

namespace bolide::jinja {
namespace {

void append_escaped(std::string& out, char32_t c) {
  if (c == '\n') {
    out += "\\n";
  } else if (c == '\r') {
    out += "\\r";
  } else if (c == '\t') {
    out += "\\t";
  } else if (is_printable(c)) {
    append_code_point(out, c);
  } else if (c < 0x100) {
    out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c));
  } else if (c < 0x10000) {
    out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
  } else {
    out += fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
  }
}

void append_repr(std::string& out, const Value& value);

void append_items(std::string& out, const std::vector<Value>& items) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    append_repr(out, items[i]);
  }
}

void append_list(std::string& out, const List& list) {
  if (list.form == Form::range) {
    out += list.step == 1 ? fmt::format("range({}, {})", list.start, list.stop)
                          : fmt::format("range({}, {}, {})", list.start, list.stop, list.step);
    return;
  }
  static constexpr std::pair<Form, std::pair<const char*, const char*>> kBrackets[] = {{Form::list, {"[", "]"}},
                                                                                       {Form::tuple, {"(", ")"}},
                                                                                       {Form::keys, {"dict_keys([", "])"}},
                                                                                       {Form::values, {"dict_values([", "])"}},
                                                                                       {Form::items, {"dict_items([", "])"}}};
  for (const auto& [form, brackets] : kBrackets) {
    if (form != list.form) continue;
    out += brackets.first;
    append_items(out, list.items);
    if (form == Form::tuple && list.items.size() == 1) out += ",";
    out += brackets.second;
  }
}

void append_repr(std::string& out, const Value& value) {
  if (const Text* text = value.text_object()) {
    out += text->markup ? "Markup(" + quoted_text(text->bytes) + ")" : quoted_text(text->bytes);
  } else if (const List* list = value.list()) {
    append_list(out, *list);
  } else if (const Dict* dict = value.dict()) {
    out += "{";
    for (size_t i = 0; i < dict->entries().size(); ++i) {
      if (i > 0) out += ", ";
      append_repr(out, dict->entries()[i].first);
      out += ": ";
      append_repr(out, dict->entries()[i].second);
    }
    out += "}";
  } else {
    out += value.is_undefined() ? "Undefined" : text_of(value);
  }
  require_size(out.size());
}

}  // namespace

std::string quoted_text(std::string_view text) {
  const bool single = text.find('\'') != std::string_view::npos, both = single && text.find('"') != std::string_view::npos;
  const char quote = single && !both ? '"' : '\'';
  std::string out(1, quote);
  for (size_t position = 0; position < text.size();) {
    const char32_t c = next_code_point(text, position);
    if (c == static_cast<char32_t>(quote) || c == '\\') out += '\\';
    append_escaped(out, c);
  }
  return out + quote;
}

std::string real_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string_view all(buffer, static_cast<size_t>(end - buffer));
  const size_t e = all.find('e');
  int exponent = 0;
  const bool positive = all[e + 1] == '+';
  std::from_chars(all.data() + e + (positive ? 2 : 1), end, exponent);
  // Python writes an exponent from 1e16 on and below 1e-4.
  if (exponent >= 16 || exponent < -4) return fmt::format("{}e{}{:02d}", all.substr(0, e), exponent < 0 ? '-' : '+', std::abs(exponent));
  const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed).ptr;
  std::string out(buffer, static_cast<size_t>(fixed - buffer));
  return out.find('.') == std::string::npos ? out + ".0" : out;
}

std::string text_of(const Value& value) {
  if (const std::string* text = value.text()) return *text;
  if (value.is_undefined()) return "";
  if (value.is_none()) return "None";
  if (const bool* flag = value.boolean()) return *flag ? "True" : "False";
  if (const int64_t* number = value.integer()) return std::to_string(*number);
  if (const double* number = value.real()) return real_text(*number);
  if (value.generator()) fail("a generator has no text of its own; turn it into a list by |list, or join it by |join");
  if (Object* object = value.object()) return object->text();
  std::string out;
  append_repr(out, value);
  return out;
}

std::string repr_of(const Value& value) {
  std::string out;
  append_repr(out, value);
  return out;
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace bolide::jinja
