#include "text/jinja_arguments.h"

#include <fmt/format.h>

#include <algorithm>

namespace bolide::jinja {

Parameters::Parameters(std::string_view function, const Arguments& arguments, std::initializer_list<std::string_view> names,
                       size_t required)
    : function_(function), names_(names), values_(names.size()) {
  if (arguments.positional.size() > names.size())
    fail(fmt::format("{}() takes at most {} arguments, {} are given", function, names.size(), arguments.positional.size()));
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found == names_.end()) fail(fmt::format("{}() has no parameter '{}'", function, name));
    const Value*& slot = values_[static_cast<size_t>(found - names_.begin())];
    if (slot) fail(fmt::format("{}() gets its parameter '{}' twice", function, name));
    slot = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!values_[i]) fail(fmt::format("{}() needs its parameter '{}'", function, names_[i]));
  }
}

void Parameters::wrong(size_t index, std::string_view expected) const {
  if (values_[index]->is_undefined()) fail_undefined(*values_[index]);
  fail(fmt::format("{}(): '{}' is {}, not {}", function_, names_[index], values_[index]->type_name(), expected));
}

int64_t Parameters::integer(size_t index, int64_t otherwise) const {
  if (!given(index)) return otherwise;
  const auto number = values_[index]->as_integer();
  if (!number) wrong(index, "an integer");
  return *number;
}

const std::string& Parameters::text(size_t index, const std::string& otherwise) const { return given(index) ? text(index) : otherwise; }

const std::string& Parameters::text(size_t index) const {
  const std::string* text = values_[index]->text();
  if (!text) wrong(index, "a string");
  return *text;
}

}  // namespace bolide::jinja
