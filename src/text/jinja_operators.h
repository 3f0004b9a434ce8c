// Python's operators on values. All throw Failure where Python raises.
#pragma once

#include <optional>

#include "text/jinja_syntax.h"

namespace bolide::jinja {

Value add(const Value& a, const Value& b);
Value subtract(const Value& a, const Value& b);
Value multiply(const Value& a, const Value& b);
Value operate(Binary operation, const Value& a, const Value& b);
Value negate(const Value& a);
Value positive(const Value& a);
bool compare(Comparison comparison, const Value& a, const Value& b);

// object[start:stop:step]; none and absent bounds are the same.
Value slice(const Value& object, const std::optional<Value>& start, const std::optional<Value>& stop, const std::optional<Value>& step);
// The item of a list, tuple, range or string; nothing when the index is outside.
std::optional<Value> item_at(const Value& sequence, int64_t index);
// range(start, stop, step), as a list of integers.
Value make_range(int64_t start, int64_t stop, int64_t step);

}  // namespace bolide::jinja
