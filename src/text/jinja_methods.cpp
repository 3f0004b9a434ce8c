// The methods of str, list, tuple and dict that templates call.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_map>

#include "text/jinja_arguments.h"
#include "text/jinja_operators.h"
#include "text/jinja_repr.h"
#include "text/jinja_runtime.h"
#include "text/jinja_text.h"

namespace bolide::jinja {
namespace {

Value texts(const std::vector<std::string_view>& parts) {
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) items.emplace_back(part);
  return Value::list(std::move(items));
}

template <std::string (*Function)(std::string_view)>
Value changed(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters none("str method", arguments, {});
  return Value(Function(*self.text()));
}

template <CharacterClass Wanted>
Value has_class(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters none("str method", arguments, {});
  return all_are(*self.text(), Wanted);
}

template <bool (*Function)(std::string_view)>
Value has_case(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters none("str method", arguments, {});
  return Function(*self.text());
}

template <Side Which>
Value stripped(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters parameters("strip", arguments, {"chars"});
  const bool given = parameters.given(0) && !parameters[0]->is_none();
  return Value(strip(*self.text(), Which, given ? std::optional<std::string_view>(parameters.text(0)) : std::nullopt));
}

template <bool FromRight>
Value split_method(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters parameters("split", arguments, {"sep", "maxsplit"});
  const int64_t at_most = parameters.integer(1, -1);
  const std::string& text = *self.text();
  if (!parameters.given(0) || parameters[0]->is_none())
    return texts(FromRight ? split_blanks_from_right(text, at_most) : split_blanks(text, at_most));
  const std::string& separator = parameters.text(0);
  if (separator.empty()) fail("empty separator");
  return texts(FromRight ? split_from_right(text, separator, at_most) : split(text, separator, at_most));
}

Value splitlines(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters parameters("splitlines", arguments, {"keepends"});
  if (parameters.given(0) && !parameters[0]->as_integer()) fail("splitlines(keepends) wants true or false");
  return texts(split_lines(*self.text(), parameters.truth(0, false)));
}

// What find, count, startswith and the like look at: the text from character `start` to `stop`.
struct Window {
  std::string_view text;
  int64_t start;  // characters before it
  bool outside;   // start lies behind the end, where not even an empty text is found
};
Window window_of(const Value& self, const Parameters& parameters) {
  const int64_t size = *length_of(self);
  const auto clamp = [&](int64_t index) { return index < 0 ? std::max<int64_t>(0, index + size) : index; };
  const auto bound = [&](size_t index, int64_t otherwise) {
    return parameters.given(index) && parameters[index]->is_none() ? otherwise : clamp(parameters.integer(index, otherwise));
  };
  const int64_t start = bound(1, 0), stop = std::min(size, bound(2, size));
  if (start > size || start > stop) return {{}, start, true};
  const std::string_view text = *self.text();
  const size_t begin = byte_of_character(text, start);
  return {text.substr(begin, byte_of_character(text.substr(begin), stop - start)), start, false};
}

template <bool AtEnd>
Value has_affix(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters parameters(AtEnd ? "endswith" : "startswith", arguments, {AtEnd ? "suffix" : "prefix", "start", "end"}, 1);
  const Window window = window_of(self, parameters);
  const auto matches = [&](const Value& affix) {
    if (affix.is_undefined()) fail_undefined(affix);
    if (!affix.text()) fail(fmt::format("startswith and endswith want a str or a tuple of str, not {}", affix.type_name()));
    return !window.outside && (AtEnd ? window.text.ends_with(*affix.text()) : window.text.starts_with(*affix.text()));
  };
  if (!parameters[0]->is_list_of(Form::tuple)) return matches(*parameters[0]);
  const std::vector<Value>& any = parameters[0]->list()->items;
  return std::any_of(any.begin(), any.end(), matches);
}

template <bool FromRight, bool MustBeThere>
Value find_in_text(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters parameters(MustBeThere ? "index" : "find", arguments, {"sub", "start", "end"}, 1);
  const std::string& wanted = parameters.text(0);
  const Window window = window_of(self, parameters);
  const size_t found = window.outside ? std::string_view::npos : FromRight ? window.text.rfind(wanted) : window.text.find(wanted);
  if (found != std::string_view::npos) return window.start + count_characters(window.text.substr(0, found));
  if (MustBeThere) fail("substring not found");
  return -1;
}

Value count_in_text(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters parameters("count", arguments, {"sub", "start", "end"}, 1);
  const std::string& wanted = parameters.text(0);
  const Window window = window_of(self, parameters);
  if (window.outside) return 0;
  if (wanted.empty()) return count_characters(window.text) + 1;
  return static_cast<int64_t>(split(window.text, wanted, -1).size()) - 1;
}

Value replace_method(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters parameters("replace", arguments, {"old", "new", "count"}, 2);
  return Value(replace(*self.text(), parameters.text(0), parameters.text(1), parameters.integer(2, -1)));
}

Value join_method(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters parameters("join", arguments, {"iterable"}, 1);
  Iterator items(*parameters[0]);
  std::string out;
  int64_t index = 0;
  for (Value item; items.next(item); ++index) {
    if (!item.text()) fail(fmt::format("sequence item {}: expected str instance, {} found", index, item.type_name()));
    if (index > 0) out += *self.text();
    out += *item.text();
    require_size(out.size());
  }
  return Value(std::move(out));
}

template <bool FromRight>
Value partition(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters parameters("partition", arguments, {"sep"}, 1);
  const std::string_view text = *self.text(), separator = parameters.text(0);
  if (separator.empty()) fail("empty separator");
  const size_t at = FromRight ? text.rfind(separator) : text.find(separator);
  if (at == std::string_view::npos) return FromRight ? Value::tuple({"", "", Value(text)}) : Value::tuple({Value(text), "", ""});
  return Value::tuple({Value(text.substr(0, at)), Value(separator), Value(text.substr(at + separator.size()))});
}

template <bool AtEnd>
Value without_affix(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters parameters(AtEnd ? "removesuffix" : "removeprefix", arguments, {"affix"}, 1);
  std::string_view text = *self.text();
  const std::string& affix = parameters.text(0);
  if (AtEnd && text.ends_with(affix)) text.remove_suffix(affix.size());
  if (!AtEnd && text.starts_with(affix)) text.remove_prefix(affix.size());
  return Value(text);
}

std::string padded(const Value& self, int64_t width, const std::string& fill, char align) {
  const int64_t missing = width - *length_of(self);
  if (missing <= 0) return *self.text();
  require_size(self.text()->size() + static_cast<size_t>(missing) * fill.size());
  // Python's centre puts the odd one to the left of an even text.
  const int64_t left = align == '<' ? 0 : align == '>' ? missing : missing / 2 + (missing & width & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += *self.text();
  for (int64_t i = left; i < missing; ++i) out += fill;
  return out;
}

template <char Align>
Value justified(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters parameters("justify", arguments, {"width", "fillchar"}, 1);
  const std::string fill = parameters.text(1, " ");
  if (count_characters(fill) != 1) fail("the fill character must be exactly one character long");
  return Value(padded(self, parameters.integer(0, 0), fill, Align));
}

Value zero_filled(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters parameters("zfill", arguments, {"width"}, 1);
  const std::string& text = *self.text();
  const bool sign = text.starts_with('-') || text.starts_with('+');
  const Value digits(text.substr(sign ? 1 : 0));
  const int64_t width = std::max<int64_t>(parameters.integer(0, 0), 0);
  return Value(text.substr(0, sign ? 1 : 0) + padded(digits, width - (sign ? 1 : 0), "0", '>'));
}

Value format_method(Runtime& runtime, const Value& self, Arguments& arguments) {
  return Value(format_braces(runtime, *self.text(), arguments));
}

Value dict_get(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters parameters("get", arguments, {"key", "default"}, 1);
  const Value* found = self.dict()->find(*parameters[0]);
  return found ? *found : parameters.value(1, None{});
}

template <Form Which>
Value dict_view(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters none("dict view", arguments, {});
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict()->entries())
    items.push_back(Which == Form::keys ? key : Which == Form::values ? value : Value::tuple({key, value}));
  return Value::list(std::move(items), Which);
}

Value copied(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters none("copy", arguments, {});
  return self;
}

Value list_index(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters parameters("index", arguments, {"value"}, 1);
  const std::vector<Value>& items = self.list()->items;
  const auto found = std::find_if(items.begin(), items.end(), [&](const Value& item) { return equals(item, *parameters[0]); });
  if (found == items.end()) fail(fmt::format("{} is not in the list", repr_of(*parameters[0])));
  return static_cast<int64_t>(found - items.begin());
}

Value list_count(Runtime&, const Value& self, Arguments& arguments) {
  const Parameters parameters("count", arguments, {"value"}, 1);
  const std::vector<Value>& items = self.list()->items;
  return static_cast<int64_t>(std::count_if(items.begin(), items.end(), [&](const Value& item) { return equals(item, *parameters[0]); }));
}

template <MethodFunction Function>
Value unnamed(Runtime& runtime, const Value& self, Arguments& arguments) {
  if (!arguments.named.empty()) fail("this method takes no named arguments");
  return Function(runtime, self, arguments);
}

using Table = std::unordered_map<std::string_view, MethodFunction>;

const Table& text_methods() {
  static const Table table{
      {"capitalize", changed<capitalize>},
      {"casefold", changed<case_fold>},
      {"center", unnamed<justified<'^'>>},
      {"count", unnamed<count_in_text>},
      {"endswith", unnamed<has_affix<true>>},
      {"find", unnamed<find_in_text<false, false>>},
      {"format", format_method},
      {"index", unnamed<find_in_text<false, true>>},
      {"isalnum", has_class<CharacterClass::alnum>},
      {"isalpha", has_class<CharacterClass::alpha>},
      {"isascii", has_class<CharacterClass::ascii>},
      {"isdecimal", has_class<CharacterClass::decimal>},
      {"isdigit", has_class<CharacterClass::digit>},
      {"islower", has_case<is_lower>},
      {"isnumeric", has_class<CharacterClass::numeric>},
      {"isprintable", has_class<CharacterClass::printable>},
      {"isspace", has_class<CharacterClass::space>},
      {"istitle", has_case<is_title>},
      {"isupper", has_case<is_upper>},
      {"join", unnamed<join_method>},
      {"ljust", unnamed<justified<'<'>>},
      {"lower", changed<lower>},
      {"lstrip", unnamed<stripped<Side::left>>},
      {"partition", unnamed<partition<false>>},
      {"removeprefix", unnamed<without_affix<false>>},
      {"removesuffix", unnamed<without_affix<true>>},
      {"replace", unnamed<replace_method>},
      {"rfind", unnamed<find_in_text<true, false>>},
      {"rindex", unnamed<find_in_text<true, true>>},
      {"rjust", unnamed<justified<'>'>>},
      {"rpartition", unnamed<partition<true>>},
      {"rsplit", split_method<true>},
      {"rstrip", unnamed<stripped<Side::right>>},
      {"split", split_method<false>},
      {"splitlines", splitlines},
      {"startswith", unnamed<has_affix<false>>},
      {"strip", unnamed<stripped<Side::both>>},
      {"swapcase", changed<swap_case>},
      {"title", changed<title>},
      {"upper", changed<upper>},
      {"zfill", unnamed<zero_filled>},
  };
  return table;
}

const Table& dict_methods() {
  static const Table table{{"copy", copied},
                           {"get", unnamed<dict_get>},
                           {"items", dict_view<Form::items>},
                           {"keys", dict_view<Form::keys>},
                           {"values", dict_view<Form::values>}};
  return table;
}

const Table& list_methods() {
  static const Table table{{"copy", copied}, {"count", unnamed<list_count>}, {"index", unnamed<list_index>}};
  return table;
}

// Methods of Python's types that are not here: an attribute that silently were undefined would change what a template writes.
bool is_unsupported(const Value& self, std::string_view name) {
  static constexpr std::array<std::string_view, 6> kOfText{"encode", "expandtabs", "format_map", "isidentifier", "maketrans", "translate"};
  return self.is_text() ? std::find(kOfText.begin(), kOfText.end(), name) != kOfText.end() : self.dict() && name == "fromkeys";
}

}  // namespace

MethodFunction find_method(const Value& self, std::string_view name) {
  const Table* table = self.is_text()                                                ? &text_methods()
                       : self.dict()                                                 ? &dict_methods()
                       : self.is_list_of(Form::list) || self.is_list_of(Form::tuple) ? &list_methods()
                                                                                     : nullptr;
  if (!table) return nullptr;
  if (const auto found = table->find(name); found != table->end())
    return self.is_list_of(Form::tuple) && name == "copy" ? nullptr : found->second;
  if (is_unsupported(self, name)) fail(fmt::format("the method {}.{} is not supported", self.type_name(), name));
  return nullptr;
}

}  // namespace bolide::jinja
