// Filters that make text.
#include <fmt/format.h>

#include <algorithm>

#include "text/jinja_filters.h"
#include "text/jinja_repr.h"
#include "text/jinja_text.h"
#include "text/unicode.h"

namespace bolide::jinja {
namespace {

template <std::string (*Function)(std::string_view)>
Value cased(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters none("case filter", arguments, {});
  return Value(Function(text_of(input)), input.text_object() && input.text_object()->markup);
}

// Jinja's own rule: a word begins behind blanks, dashes and opening brackets.
std::string title_words(std::string_view text) {
  std::string out;
  for (size_t position = 0; position < text.size();) {
    size_t end = position;
    const auto is_break = [](char32_t c) { return is_blank(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<'; };
    while (end < text.size()) {
      size_t next = end;
      if (is_break(next_code_point(text, next))) break;
      end = next;
    }
    const std::string_view word = text.substr(position, end - position);
    const size_t first = word.empty() ? 0 : next_character(word, 0);
    out += upper(word.substr(0, first)) + lower(word.substr(first));
    while (end < text.size()) {
      size_t next = end;
      if (!is_break(next_code_point(text, next))) break;
      out += text.substr(end, next - end);
      end = next;
    }
    position = end;
  }
  return out;
}

Value title_filter(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters none("title", arguments, {});
  return Value(title_words(text_of(input)));
}

Value trim(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters parameters("trim", arguments, {"chars"});
  const std::string text = text_of(input);
  const bool given = parameters.given(0) && !parameters[0]->is_none();
  const std::string_view out = strip(text, Side::both, given ? std::optional<std::string_view>(parameters.text(0)) : std::nullopt);
  return Value(std::string(out), input.text_object() && input.text_object()->markup);
}

Value replace_filter(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters parameters("replace", arguments, {"old", "new", "count"}, 2);
  return Value(replace(text_of(input), text_of(*parameters[0]), text_of(*parameters[1]), parameters.integer(2, -1)));
}

Value indent(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters parameters("indent", arguments, {"width", "first", "blank"});
  const bool first = parameters.truth(1, false), blank = parameters.truth(2, false);
  std::string by;
  if (parameters.given(0) && parameters[0]->text()) {
    by = *parameters[0]->text();
  } else {
    const int64_t width = parameters.integer(0, 4);
    require_size(static_cast<size_t>(std::max<int64_t>(0, width)));
    by.assign(static_cast<size_t>(std::max<int64_t>(0, width)), ' ');
  }
  if (!input.text()) fail(fmt::format("indent wants a string, not {}", input.type_name()));
  const std::string text = *input.text() + "\n";  // the quirk that keeps a line end at the end
  std::string out = first ? by : "";
  bool at_first = true;
  for (const std::string_view line : split_lines(text, false)) {
    if (!at_first) out += "\n";
    if (!at_first && (blank || !line.empty())) out += by;
    out += line;
    at_first = false;
    require_size(out.size());
  }
  return Value(std::move(out));
}

Value truncate(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters parameters("truncate", arguments, {"length", "killwords", "end", "leeway"});
  const int64_t length = parameters.integer(0, 255), leeway = parameters.integer(3, 5);
  const std::string end = parameters.text(2, "...");
  const auto size = length_of(input);
  if (!size) fail(fmt::format("object of type '{}' has no len()", input.type_name()));
  const int64_t end_size = count_characters(end);
  if (length < end_size) fail(fmt::format("expected length >= {}, got {}", end_size, length));
  if (leeway < 0) fail(fmt::format("expected leeway >= 0, got {}", leeway));
  if (*size <= length + leeway) return input;
  if (!input.text()) fail(fmt::format("truncate wants a string, not {}", input.type_name()));
  const std::string cut = input.text()->substr(0, byte_of_character(*input.text(), length - end_size));
  if (parameters.truth(1, false)) return Value(cut + end);
  return Value(cut.substr(0, cut.rfind(' ')) + end);
}

Value center(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters parameters("center", arguments, {"width"});
  const Value text(text_of(input));
  Arguments width{{Value(parameters.integer(0, 80))}, {}};
  return find_method(text, "center")(runtime, text, width);
}

Value string_filter(Runtime&, const Value& input, Arguments&) { return input.is_text() ? input : Value(text_of(input)); }

Value escape(Runtime&, const Value& input, Arguments&) {
  const Text* text = input.text_object();
  return text && text->markup ? input : Value(escape_html(text_of(input)), true);
}
Value force_escape(Runtime&, const Value& input, Arguments&) { return Value(escape_html(text_of(input)), true); }
Value safe(Runtime&, const Value& input, Arguments&) { return Value(text_of(input), true); }

Value format_filter(Runtime&, const Value& input, Arguments& arguments) {
  if (!arguments.named.empty() && !arguments.positional.empty()) fail("can't handle positional and keyword arguments at the same time");
  if (arguments.named.empty()) return Value(format_percent(text_of(input), Value::tuple(arguments.positional)));
  auto dict = std::make_shared<Dict>();
  for (auto& [name, value] : arguments.named) dict->set(Value(name), value);
  return Value(format_percent(text_of(input), DictPtr(std::move(dict))));
}

Value word_count(Runtime&, const Value& input, Arguments&) {
  const std::string text = text_of(input);
  int64_t words = 0;
  bool inside = false;
  for (size_t position = 0; position < text.size();) {
    const bool letter = is_word(next_code_point(text, position));
    words += letter && !inside ? 1 : 0;
    inside = letter;
  }
  return words;
}

Value url_encode(Runtime&, const Value& input, Arguments&) {
  const auto quote = [](std::string_view text, bool query) {
    static constexpr std::string_view kPlain = "_.-~ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    std::string out;
    for (const char c : text) {
      if (kPlain.find(c) != std::string_view::npos || (c == '/' && !query))
        out += c;
      else if (c == ' ' && query)
        out += '+';
      else
        out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return out;
  };
  if (input.is_text() || (!input.dict() && !input.list())) return Value(quote(text_of(input), false));
  std::string out;
  const auto add = [&](const Value& key, const Value& value) {
    if (!out.empty()) out += '&';
    out += quote(text_of(key), true);
    out += '=';
    out += quote(text_of(value), true);
  };
  if (const Dict* dict = input.dict()) {
    for (const auto& [key, value] : dict->entries()) add(key, value);
    return Value(std::move(out));
  }
  for (const Value& pair : input.list()->items) {
    const std::vector<Value> parts = all_items(pair);
    if (parts.size() != 2) fail("urlencode wants pairs");
    add(parts[0], parts[1]);
  }
  return Value(std::move(out));
}

Value to_json(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters parameters("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonOptions options;
  options.ascii = parameters.truth(0, false);
  options.sort_keys = parameters.truth(3, false);
  if (parameters.given(1) && !parameters[1]->is_none()) {
    options.multi_line = true;
    options.item_separator.assign(1, ',');
    if (const std::string* text = parameters[1]->text()) {
      options.indent = *text;
    } else {
      const int64_t width = std::max<int64_t>(0, parameters.integer(1, 0));
      require_size(static_cast<size_t>(width));
      options.indent.assign(static_cast<size_t>(width), ' ');
    }
  }
  if (parameters.given(2) && !parameters[2]->is_none()) {
    const std::vector<Value> pair = all_items(*parameters[2]);
    if (pair.size() != 2 || !pair[0].text() || !pair[1].text()) fail("tojson(separators=...) wants two strings");
    options.item_separator = *pair[0].text();
    options.key_separator = *pair[1].text();
  }
  return Value(json_of(input, options));
}

Value default_filter(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters parameters("default", arguments, {"default_value", "boolean"});
  const bool replaced = input.is_undefined() || (parameters.truth(1, false) && !input.truth());
  return replaced ? parameters.value(0, "") : input;
}

Value strip_tags(Runtime&, const Value& input, Arguments&) {
  std::string text = text_of(input);
  for (const auto& [open, close] : {std::pair<std::string_view, std::string_view>{"<!--", "-->"}, {"<", ">"}}) {
    for (size_t begin = text.find(open); begin != std::string::npos; begin = text.find(open, begin)) {
      const size_t end = text.find(close, begin);
      if (end == std::string::npos) break;
      text.erase(begin, end + close.size() - begin);
    }
  }
  std::string out;
  for (const std::string_view word : split_blanks(text, -1)) (out += out.empty() ? "" : " ") += word;
  return Value(std::move(out));
}

}  // namespace

FilterList text_filters() {
  static constexpr FilterEntry kEntries[] = {{"capitalize", cased<capitalize>},
                                             {"center", center},
                                             {"d", default_filter},
                                             {"default", default_filter},
                                             {"e", escape},
                                             {"escape", escape},
                                             {"forceescape", force_escape},
                                             {"format", format_filter},
                                             {"indent", indent},
                                             {"lower", cased<lower>},
                                             {"replace", replace_filter},
                                             {"safe", safe},
                                             {"string", string_filter},
                                             {"striptags", strip_tags},
                                             {"title", title_filter},
                                             {"tojson", to_json},
                                             {"trim", trim},
                                             {"truncate", truncate},
                                             {"upper", cased<upper>},
                                             {"urlencode", url_encode},
                                             {"wordcount", word_count},
                                             // Random, locale-bound or made for HTML pages: no chat template can mean them.
                                             {"pprint", nullptr},
                                             {"random", nullptr},
                                             {"urlize", nullptr},
                                             {"wordwrap", nullptr},
                                             {"xmlattr", nullptr}};
  return kEntries;
}

}  // namespace bolide::jinja
