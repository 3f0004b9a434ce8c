// A call's arguments, bound to the names of a function's parameters.
#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "text/jinja_value.h"

namespace bolide::jinja {

class Parameters {
 public:
  // Throws Failure for too many, unknown or doubled arguments, and when one of the first `required` is missing.
  Parameters(std::string_view function, const Arguments& arguments, std::initializer_list<std::string_view> names, size_t required = 0);

  // Null when not given.
  const Value* operator[](size_t index) const { return values_[index]; }
  bool given(size_t index) const { return values_[index] != nullptr; }
  Value value(size_t index, Value otherwise) const { return given(index) ? *values_[index] : std::move(otherwise); }
  bool truth(size_t index, bool otherwise) const { return given(index) ? values_[index]->truth() : otherwise; }
  // Fail for other types.
  int64_t integer(size_t index, int64_t otherwise) const;
  const std::string& text(size_t index, const std::string& otherwise) const;
  const std::string& text(size_t index) const;

 private:
  [[noreturn]] void wrong(size_t index, std::string_view expected) const;
  std::string_view function_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

}  // namespace bolide::jinja
