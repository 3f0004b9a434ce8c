// The table of filters, and those that pick or change items one by one. These are generators: nothing happens until they are read.
#include "text/jinja_filters.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

namespace bolide::jinja {
namespace {

using Table = std::unordered_map<std::string_view, FilterFunction>;

const Table& filter_table() {
  static const Table table = [] {
    Table all;
    for (const FilterList& list : {text_filters(), number_filters(), sequence_filters(), selecting_filters()}) {
      for (const FilterEntry& entry : list) all.emplace(entry.name, entry.function);
    }
    return all;
  }();
  return table;
}

int depth_of(const Arguments& arguments) {
  int depth = 0;
  for (const Value& value : arguments.positional) depth = std::max(depth, value.depth());
  for (const auto& [name, value] : arguments.named) depth = std::max(depth, value.depth());
  return depth;
}

using Step = std::function<bool(Value& item)>;

// The items of `input`, each handed to a step, which says whether to yield it and may change it. The step is made, and the input
// looked at, when the first item is asked for: a generator over nonsense that nobody reads does no harm.
Value generator_of(Runtime& runtime, const Value& input, const Arguments& arguments, std::function<Step()> make_step) {
  auto out = std::make_shared<Generator>();
  out->depth = std::max(input.depth(), depth_of(arguments)) + 1;
  if (out->depth > kMaxDataDepth) fail(fmt::format("generators nest deeper than {} levels", kMaxDataDepth));
  out->next = [&runtime, input, make_step = std::move(make_step), step = Step(),
               iterator = std::optional<Iterator>()](Value& item) mutable {
    if (!iterator) {
      if (!input.truth()) return false;  // none and 0 count as empty
      step = make_step();
      iterator.emplace(input);
    }
    while (iterator->next(item)) {
      runtime.charge(1);
      if (step(item)) return true;
    }
    return false;
  };
  return out;
}

// The argument at `index` as the name of a filter or test, and the arguments behind it as that one's own.
std::string take_name(Arguments& arguments, size_t index, std::string_view what) {
  if (arguments.positional.size() <= index || !arguments.positional[index].text()) fail(fmt::format("the name of a {} is missing", what));
  std::string name = *arguments.positional[index].text();
  arguments.positional.erase(arguments.positional.begin(), arguments.positional.begin() + static_cast<std::ptrdiff_t>(index) + 1);
  return name;
}

Step map_step(Runtime& runtime, Arguments arguments) {
  const bool by_attribute =
      std::any_of(arguments.named.begin(), arguments.named.end(), [](const auto& each) { return each.first == "attribute"; });
  if (arguments.positional.empty() && by_attribute) {
    const auto kept = std::make_shared<const Arguments>(std::move(arguments));
    const Parameters parameters("map", *kept, {"attribute", "default"}, 1);
    return [&runtime, kept, path = AttributePath(parameters[0], false, parameters[1])](Value& item) {
      item = path(runtime, item);
      return true;
    };
  }
  const std::string name = take_name(arguments, 0, "filter");
  return [&runtime, name, arguments](Value& item) {
    Arguments copy = arguments;
    item = runtime.apply_filter(name, item, copy);
    runtime.charge_text(item);
    return true;
  };
}

Value map(Runtime& runtime, const Value& input, Arguments& arguments) {
  return generator_of(runtime, input, arguments, [&runtime, arguments] { return map_step(runtime, arguments); });
}

template <bool Wanted, bool ByAttribute>
Step select_step(Runtime& runtime, Arguments arguments) {
  if (ByAttribute && arguments.positional.empty()) fail("the name of an attribute is missing");
  const size_t own = ByAttribute ? 1 : 0;
  const AttributePath path(ByAttribute ? &arguments.positional[0] : nullptr, false);
  const bool by_truth = arguments.positional.size() == own;
  const std::string test = by_truth ? "" : take_name(arguments, own, "test");
  return [&runtime, path, by_truth, test, arguments](Value& item) {
    const Value looked_at = path(runtime, item);
    Arguments copy = arguments;
    return (by_truth ? looked_at.truth() : runtime.apply_test(test, looked_at, copy)) == Wanted;
  };
}

template <bool Wanted, bool ByAttribute>
Value select(Runtime& runtime, const Value& input, Arguments& arguments) {
  return generator_of(runtime, input, arguments, [&runtime, arguments] { return select_step<Wanted, ByAttribute>(runtime, arguments); });
}

}  // namespace

FilterList selecting_filters() {
  static constexpr FilterEntry kEntries[] = {{"map", map},
                                             {"reject", select<false, false>},
                                             {"rejectattr", select<false, true>},
                                             {"select", select<true, false>},
                                             {"selectattr", select<true, true>}};
  return kEntries;
}

bool is_filter(std::string_view name) { return filter_table().contains(name); }

Value Runtime::apply_filter(const std::string& name, const Value& input, Arguments& arguments) {
  const auto found = filter_table().find(name);
  if (found == filter_table().end()) fail(fmt::format("no filter named '{}'", name));
  if (!found->second) fail(fmt::format("the filter '{}' is not supported", name));
  const Deeper level(*this);
  return found->second(*this, input, arguments);
}

}  // namespace bolide::jinja
