// Filters and tests, by name. Each is a plain function; the tables are in jinja_filters.cpp and jinja_tests.cpp.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "text/jinja_arguments.h"
#include "text/jinja_runtime.h"

namespace bolide::jinja {

using FilterFunction = Value (*)(Runtime& runtime, const Value& input, Arguments& arguments);
using TestFunction = bool (*)(Runtime& runtime, const Value& input, Arguments& arguments);

// Whether Jinja has such a filter or test (a few of its filters are refused when they are used).
bool is_filter(std::string_view name);
bool is_test(std::string_view name);

struct FilterEntry {
  std::string_view name;
  FilterFunction function;  // null: known to Jinja, not supported here
};
using FilterList = std::span<const FilterEntry>;

// The files of filters.
FilterList text_filters();
FilterList number_filters();
FilterList sequence_filters();
FilterList selecting_filters();

// "a.b.0" looked up in an item, part by part, as map(attribute=...) and sort(attribute=...) do; missing ones become `otherwise`.
class AttributePath {
 public:
  AttributePath(const Value* path, bool ignore_case, const Value* otherwise = nullptr);
  Value operator()(Runtime& runtime, const Value& item) const;

 private:
  std::vector<Value> parts_;
  bool ignore_case_;  // strings come out in lower case
  const Value* otherwise_;
};

}  // namespace bolide::jinja
