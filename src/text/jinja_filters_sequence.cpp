// Filters over sequences that look at all of them.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "text/jinja_filters.h"
#include "text/jinja_operators.h"
#include "text/jinja_repr.h"
#include "text/jinja_text.h"

namespace bolide::jinja {
namespace {

GeneratorPtr generator_over(std::vector<Value> items) {
  const Value list = Value::list(std::move(items));
  auto out = std::make_shared<Generator>();
  out->depth = list.depth();
  out->next = [iterator = Iterator(list)](Value& value) mutable { return iterator.next(value); };
  return out;
}

// The items that `make` gives when the first of them is asked for. It may hold `input` and `arguments`.
Value generator_later(const Value& input, const Arguments& arguments, std::function<std::vector<Value>()> make) {
  auto out = std::make_shared<Generator>();
  int depth = input.depth();
  for (const Value& value : arguments.positional) depth = std::max(depth, value.depth());
  for (const auto& [name, value] : arguments.named) depth = std::max(depth, value.depth());
  out->depth = depth + 2;
  if (out->depth > kMaxDataDepth) fail(fmt::format("generators nest deeper than {} levels", kMaxDataDepth));
  out->next = [make = std::move(make), inner = GeneratorPtr()](Value& value) mutable {
    if (!inner) inner = generator_over(make());
    return inner->next(value);
  };
  return out;
}

Value first(Runtime&, const Value& input, Arguments&) {
  Iterator iterator(input);
  Value item;
  return iterator.next(item) ? item : Value::undefined("No first item, sequence was empty.");
}

Value last(Runtime&, const Value& input, Arguments&) {
  if (input.generator()) fail("'generator' object is not reversible");
  const std::vector<Value> items = all_items(input);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value length(Runtime&, const Value& input, Arguments&) {
  const auto size = length_of(input);
  if (!size) fail(fmt::format("object of type '{}' has no len()", input.type_name()));
  return *size;
}

Value join(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters parameters("join", arguments, {"d", "attribute"});
  const std::string separator = parameters.given(0) ? text_of(*parameters[0]) : "";
  const AttributePath path(parameters[1], false);
  Iterator iterator(input);
  std::string out;
  bool any = false;
  for (Value item; iterator.next(item); any = true) {
    if (any) out += separator;
    out += text_of(path(runtime, item));
    require_size(out.size());
  }
  return Value(std::move(out));
}

Value list_filter(Runtime&, const Value& input, Arguments&) { return Value::list(all_items(input)); }

Value reverse(Runtime&, const Value& input, Arguments&) {
  if (const std::string* text = input.text()) {
    std::vector<char32_t> characters = code_points(*text);
    std::reverse(characters.begin(), characters.end());
    return Value(utf8_of(characters));
  }
  std::vector<Value> items = all_items(input);
  std::reverse(items.begin(), items.end());
  return generator_over(std::move(items));
}

Value lowered(const Value& value) { return value.is_text() ? Value(lower(*value.text())) : value; }

// Stable, by one or more keys. Comparing may fail, which std::stable_sort must not be left by in the middle of a move of its own:
// indices are sorted instead of values. `equal_first`: keys that are equal need no order between them (Python compares lists of keys).
template <class Key>
std::vector<Value> sorted(Runtime& runtime, const std::vector<Value>& items, bool reversed, bool equal_first, Key key) {
  std::vector<Value> keys;
  for (const Value& item : items) keys.push_back(key(item));
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    runtime.charge(1);
    if (equal_first && equals(keys[a], keys[b])) return false;
    return reversed ? in_order(keys[b], Order::less, keys[a]) : in_order(keys[a], Order::less, keys[b]);
  });
  std::vector<Value> out;
  for (const size_t index : order) out.push_back(items[index]);
  return out;
}

Value sort(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters parameters("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  const bool ignore_case = !parameters.truth(1, false);
  if (parameters.given(0) && !parameters[0]->as_integer()) fail("sort(reverse=...) wants true or false");
  std::vector<AttributePath> paths;
  if (parameters[2] && parameters[2]->text()) {
    std::vector<Value> names;
    for (const std::string_view name : split(*parameters[2]->text(), ",", -1)) names.emplace_back(name);
    for (const Value& name : names) paths.emplace_back(&name, ignore_case);
  } else {
    paths.emplace_back(parameters[2], ignore_case);
  }
  const auto key = [&](const Value& item) {
    if (paths.size() == 1) return paths[0](runtime, item);
    std::vector<Value> parts;
    for (const AttributePath& path : paths) parts.push_back(path(runtime, item));
    return Value::tuple(std::move(parts));
  };
  return Value::list(sorted(runtime, all_items(input), parameters.truth(0, false), true, key));
}

Value dict_sort(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters parameters("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  const std::string by = parameters.text(1, "key");
  if (by != "key" && by != "value") fail("You can only sort by either \"key\" or \"value\"");
  if (!input.dict()) fail(fmt::format("dictsort wants a dict, not {}", input.type_name()));
  std::vector<Value> pairs;
  for (const auto& [key, value] : input.dict()->entries()) pairs.push_back(Value::tuple({key, value}));
  const bool ignore_case = !parameters.truth(0, false);
  return Value::list(sorted(runtime, pairs, parameters.truth(2, false), false, [&](const Value& pair) {
    const Value& part = pair.list()->items[by == "value" ? 1 : 0];
    return ignore_case ? lowered(part) : part;
  }));
}

Parameters unique_parameters(const Arguments& arguments) { return {"unique", arguments, {"case_sensitive", "attribute"}}; }

std::vector<Value> unique_items(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters parameters = unique_parameters(arguments);
  const AttributePath path(parameters[1], !parameters.truth(0, false));
  Dict seen;
  std::vector<Value> out;
  Iterator iterator(input);
  for (Value item; iterator.next(item);) {
    const Value key = path(runtime, item);
    if (seen.find(key)) continue;
    seen.set(key, true);
    out.push_back(item);
  }
  return out;
}

template <bool Largest>
Value extreme(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters parameters(Largest ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  const AttributePath path(parameters[1], !parameters.truth(0, false));
  Iterator iterator(input);
  Value best, best_key, item;
  if (!iterator.next(best)) return Value::undefined("No aggregated item, sequence was empty.");
  best_key = path(runtime, best);
  while (iterator.next(item)) {
    const Value key = path(runtime, item);
    if (!in_order(key, Largest ? Order::greater : Order::less, best_key)) continue;
    best = item;
    best_key = key;
  }
  return best;
}

Value sum(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters parameters("sum", arguments, {"attribute", "start"});
  const AttributePath path(parameters[0], false);
  Value total = parameters.value(1, 0);
  if (total.is_text()) fail("sum() can't sum strings; use join");
  Iterator iterator(input);
  for (Value item; iterator.next(item);) {
    total = add(total, path(runtime, item));
    runtime.charge_text(total);
  }
  return total;
}

Parameters batch_parameters(const Arguments& arguments) { return {"batch", arguments, {"linecount", "fill_with"}, 1}; }
Parameters slice_parameters(const Arguments& arguments) { return {"slice", arguments, {"slices", "fill_with"}, 1}; }
Parameters no_parameters(const Arguments& arguments) { return {"items", arguments, {}}; }

std::vector<Value> batches(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters parameters = batch_parameters(arguments);
  const bool filled = parameters.given(1) && !parameters[1]->is_none();
  // Python compares the count with ==, which is never true of what is no number.
  const int64_t size = filled ? parameters.integer(0, 0) : parameters[0]->as_integer().value_or(-1);
  std::vector<Value> out, line;
  Iterator iterator(input);
  for (Value item; iterator.next(item);) {
    if (static_cast<int64_t>(line.size()) == size) out.push_back(Value::list(std::exchange(line, {})));
    line.push_back(item);
  }
  if (line.empty()) return out;
  if (filled) {
    runtime.charge(static_cast<size_t>(std::max<int64_t>(0, size)));
    while (static_cast<int64_t>(line.size()) < size) line.push_back(*parameters[1]);
  }
  out.push_back(Value::list(std::move(line)));
  return out;
}

std::vector<Value> slices_of(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Parameters parameters = slice_parameters(arguments);
  const int64_t slices = parameters.integer(0, 0);
  const std::vector<Value> items = all_items(input);
  const auto size = static_cast<int64_t>(items.size());
  if (slices == 0) fail("integer division or modulo by zero");
  runtime.charge(static_cast<size_t>(std::max<int64_t>(0, slices)));
  std::vector<Value> out;
  int64_t begin = 0;
  for (int64_t i = 0; i < slices; ++i) {
    const int64_t count = size / slices + (i < size % slices ? 1 : 0);
    std::vector<Value> part(items.begin() + begin, items.begin() + begin + count);
    if (parameters.given(1) && !parameters[1]->is_none() && size % slices != 0 && i >= size % slices) part.push_back(*parameters[1]);
    out.push_back(Value::list(std::move(part)));
    begin += count;
  }
  return out;
}

template <std::vector<Value> (*Make)(Runtime&, const Value&, const Arguments&), Parameters (*Check)(const Arguments&)>
Value later(Runtime& runtime, const Value& input, Arguments& arguments) {
  Check(arguments);
  return generator_later(input, arguments, [&runtime, input, arguments] { return Make(runtime, input, arguments); });
}

Value group_by(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters parameters("groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  const bool ignore_case = !parameters.truth(2, false);
  const AttributePath path(parameters[0], false, parameters[1]);
  const auto key_of = [&](const Value& item) {
    const Value key = path(runtime, item);
    return ignore_case ? lowered(key) : key;
  };
  const std::vector<Value> items = sorted(runtime, all_items(input), false, false, key_of);
  std::vector<Value> groups;
  for (size_t begin = 0; begin < items.size();) {
    const Value key = key_of(items[begin]);
    size_t end = begin;
    while (end < items.size() && equals(key_of(items[end]), key)) ++end;
    const std::vector<Value> members(items.begin() + static_cast<std::ptrdiff_t>(begin), items.begin() + static_cast<std::ptrdiff_t>(end));
    groups.push_back(Value::group(path(runtime, items[begin]), Value::list(members)));
    begin = end;
  }
  return Value::list(std::move(groups));
}

std::vector<Value> item_pairs(Runtime&, const Value& input, const Arguments&) {
  std::vector<Value> pairs;
  if (input.is_undefined()) return pairs;
  if (!input.dict()) fail("Can only get item pairs from a mapping.");
  for (const auto& [key, value] : input.dict()->entries()) pairs.push_back(Value::tuple({key, value}));
  return pairs;
}

Value attribute_filter(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters parameters("attr", arguments, {"name"}, 1);
  const std::string& name = parameters.text(0);
  // Unlike a dot, it never looks among a dict's keys.
  if (input.dict() && !find_method(input, name))
    return Value::undefined(fmt::format("'dict object' has no attribute {}", quoted_text(name)));
  return runtime.attribute(input, name);
}

}  // namespace

AttributePath::AttributePath(const Value* path, bool ignore_case, const Value* otherwise)
    : ignore_case_(ignore_case), otherwise_(otherwise && !otherwise->is_none() ? otherwise : nullptr) {
  if (!path || path->is_none()) return;
  if (!path->text()) {
    parts_.push_back(*path);
    return;
  }
  for (const std::string_view part : split(*path->text(), ".", -1)) {
    int64_t number = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number);
    const bool digits = error == std::errc() && end == part.data() + part.size() && number >= 0 && part[0] != '-';
    parts_.push_back(digits ? Value(number) : Value(part));
  }
}

Value AttributePath::operator()(Runtime& runtime, const Value& item) const {
  Value value = item;
  for (const Value& part : parts_) {
    value = runtime.item(value, part);
    if (otherwise_ && value.is_undefined()) value = *otherwise_;
  }
  return ignore_case_ ? lowered(value) : value;
}

FilterList sequence_filters() {
  static constexpr FilterEntry kEntries[] = {{"attr", attribute_filter},
                                             {"batch", later<batches, batch_parameters>},
                                             {"count", length},
                                             {"dictsort", dict_sort},
                                             {"first", first},
                                             {"groupby", group_by},
                                             {"items", later<item_pairs, no_parameters>},
                                             {"join", join},
                                             {"last", last},
                                             {"length", length},
                                             {"list", list_filter},
                                             {"max", extreme<true>},
                                             {"min", extreme<false>},
                                             {"reverse", reverse},
                                             {"slice", later<slices_of, slice_parameters>},
                                             {"sort", sort},
                                             {"sum", sum},
                                             {"unique", later<unique_items, unique_parameters>}};
  return kEntries;
}

}  // namespace bolide::jinja
