#include "text/jinja_operators.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "text/jinja_repr.h"
#include "text/jinja_text.h"

namespace bolide::jinja {
namespace {

constexpr int64_t kMaxRange = 100000;          // as in Jinja's sandbox
constexpr size_t kMaxItems = size_t{1} << 22;  // of a list made by + or *

[[noreturn]] void refuse(std::string_view symbol, const Value& a, const Value& b) {
  if (a.is_undefined()) fail_undefined(a);
  if (b.is_undefined()) fail_undefined(b);
  fail(fmt::format("unsupported operand types for {}: '{}' and '{}'", symbol, a.type_name(), b.type_name()));
}

[[noreturn]] void fail_overflow() { fail("an integer is beyond 64 bits"); }

Value sequence_sum(const List& a, const List& b) {
  if (a.items.size() + b.items.size() > kMaxItems) fail(fmt::format("a list would have more than {} items", kMaxItems));
  std::vector<Value> items = a.items;
  items.insert(items.end(), b.items.begin(), b.items.end());
  return Value::list(std::move(items), a.form);
}

Value text_sum(const Text& a, const Text& b) {
  if (a.markup == b.markup) return Value(a.bytes + b.bytes, a.markup);
  return a.markup ? Value(a.bytes + escape_html(b.bytes), true) : Value(escape_html(a.bytes) + b.bytes, true);
}

Value repeated(const Value& value, int64_t times) {
  const size_t count = static_cast<size_t>(std::max<int64_t>(0, times));
  if (const Text* text = value.text_object()) {
    if (!text->bytes.empty() && count > kMaxTextBytes / text->bytes.size()) require_size(kMaxTextBytes + 1);
    std::string out;
    out.reserve(text->bytes.size() * count);
    for (size_t i = 0; i < count && !text->bytes.empty(); ++i) out += text->bytes;
    return Value(std::move(out), text->markup);
  }
  const List& list = *value.list();
  if (!list.items.empty() && count > kMaxItems / list.items.size()) fail(fmt::format("a list would have more than {} items", kMaxItems));
  std::vector<Value> items;
  for (size_t i = 0; i < count && !list.items.empty(); ++i) items.insert(items.end(), list.items.begin(), list.items.end());
  return Value::list(std::move(items), list.form);
}

bool can_repeat(const Value& value) { return value.is_text() || value.is_list_of(Form::list) || value.is_list_of(Form::tuple); }

double floor_of_quotient(double a, double b) {
  double rest = std::fmod(a, b), quotient = (a - rest) / b;
  if (rest != 0 && (b < 0) != (rest < 0)) quotient -= 1;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1 : whole;
}

double rest_of_quotient(double a, double b) {
  const double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  return (b < 0) != (rest < 0) ? rest + b : rest;
}

Value divide(Binary operation, const Value& a, const Value& b) {
  const auto x = a.as_integer(), y = b.as_integer();
  if (*b.as_number() == 0) fail(operation == Binary::modulo ? "integer modulo by zero" : "division by zero");
  if (operation == Binary::divide) return *a.as_number() / *b.as_number();
  if (!x || !y) {
    const double p = *a.as_number(), q = *b.as_number();
    return operation == Binary::modulo ? rest_of_quotient(p, q) : floor_of_quotient(p, q);
  }
  if (*y == -1) {  // the one quotient that may not fit
    if (operation == Binary::modulo) return 0;
    if (*x == std::numeric_limits<int64_t>::min()) fail_overflow();
    return -*x;
  }
  const int64_t rest = *x % *y, adjust = rest != 0 && (rest < 0) != (*y < 0) ? 1 : 0;
  return operation == Binary::modulo ? rest + adjust * *y : *x / *y - adjust;
}

Value power(const Value& a, const Value& b) {
  const auto x = a.as_integer(), y = b.as_integer();
  if (!x || !y || *y < 0) {
    const double base = *a.as_number(), exponent = *b.as_number();
    if (base == 0 && exponent < 0) fail("0.0 cannot be raised to a negative power");
    const double out = std::pow(base, exponent);
    if (std::isnan(out) && !std::isnan(base) && !std::isnan(exponent)) fail("a power that is no real number");
    if (std::isinf(out) && !std::isinf(base) && !std::isinf(exponent)) fail("a power that is too large");
    return out;
  }
  int64_t out = 1, base = *x;
  for (int64_t rest = *y; rest > 0; rest >>= 1) {
    if ((rest & 1) && __builtin_mul_overflow(out, base, &out)) fail_overflow();
    if (rest > 1 && __builtin_mul_overflow(base, base, &base)) fail_overflow();
  }
  return out;
}

std::optional<int64_t> bound(const std::optional<Value>& value) {
  if (!value || value->is_none()) return std::nullopt;
  const auto number = value->as_integer();
  if (!number) fail("slice indices must be integers or None");
  return number;
}

// Start, stop, step and count of a slice over `size` items, as Python's slice.indices.
struct Span {
  int64_t start, stop, step, count;
};
Span span_of(int64_t size, std::optional<int64_t> start, std::optional<int64_t> stop, std::optional<int64_t> step) {
  const int64_t by = step.value_or(1);
  if (by == 0) fail("slice step cannot be zero");
  const int64_t lowest = by < 0 ? -1 : 0, highest = by < 0 ? size - 1 : size;
  const auto clamp = [&](int64_t index) { return index < 0 ? std::max(index + size, lowest) : std::min(index, highest); };
  const int64_t from = start ? clamp(*start) : by < 0 ? highest : lowest, to = stop ? clamp(*stop) : by < 0 ? lowest : highest;
  const int64_t distance = by < 0 ? from - to : to - from;
  const uint64_t stride = by < 0 ? 0 - static_cast<uint64_t>(by) : static_cast<uint64_t>(by);
  return {from, to, by, distance <= 0 ? 0 : static_cast<int64_t>((static_cast<uint64_t>(distance) - 1) / stride) + 1};
}

Value text_slice(const Text& text, const Span& span) {
  if (text.ascii || span.step == 1) {
    const size_t begin = text.ascii ? static_cast<size_t>(span.start) : byte_of_character(text.bytes, span.start);
    if (span.step == 1) {
      const std::string_view rest = std::string_view(text.bytes).substr(std::min(begin, text.bytes.size()));
      const size_t size = text.ascii ? static_cast<size_t>(span.count) : byte_of_character(rest, span.count);
      return Value(std::string(rest.substr(0, size)), text.markup);
    }
  }
  const std::vector<char32_t> characters = code_points(text.bytes);
  std::vector<char32_t> out;
  for (int64_t i = 0; i < span.count; ++i) out.push_back(characters[static_cast<size_t>(span.start + i * span.step)]);
  return Value(utf8_of(out), text.markup);
}

}  // namespace

Value add(const Value& a, const Value& b) {
  if (a.text_object() && b.text_object()) return text_sum(*a.text_object(), *b.text_object());
  if (a.list() && b.list() && a.list()->form == b.list()->form && can_repeat(a)) return sequence_sum(*a.list(), *b.list());
  const auto x = a.as_integer(), y = b.as_integer();
  if (x && y) {
    int64_t out = 0;
    if (__builtin_add_overflow(*x, *y, &out)) fail_overflow();
    return out;
  }
  if (!a.as_number() || !b.as_number()) refuse("+", a, b);
  return *a.as_number() + *b.as_number();
}

Value subtract(const Value& a, const Value& b) {
  const auto x = a.as_integer(), y = b.as_integer();
  if (x && y) {
    int64_t out = 0;
    if (__builtin_sub_overflow(*x, *y, &out)) fail_overflow();
    return out;
  }
  if (!a.as_number() || !b.as_number()) refuse("-", a, b);
  return *a.as_number() - *b.as_number();
}

Value multiply(const Value& a, const Value& b) {
  const auto x = a.as_integer(), y = b.as_integer();
  if (can_repeat(a) && y) return repeated(a, *y);
  if (can_repeat(b) && x) return repeated(b, *x);
  if (x && y) {
    int64_t out = 0;
    if (__builtin_mul_overflow(*x, *y, &out)) fail_overflow();
    return out;
  }
  if (!a.as_number() || !b.as_number()) refuse("*", a, b);
  return *a.as_number() * *b.as_number();
}

Value operate(Binary operation, const Value& a, const Value& b) {
  static constexpr const char* kSymbols[] = {"+", "-", "*", "/", "//", "%", "**"};
  switch (operation) {
    case Binary::add:
      return add(a, b);
    case Binary::subtract:
      return subtract(a, b);
    case Binary::multiply:
      return multiply(a, b);
    default:
      break;
  }
  if (operation == Binary::modulo && a.is_text()) return Value(format_percent(*a.text(), b));
  if (!a.as_number() || !b.as_number()) refuse(kSymbols[static_cast<int>(operation)], a, b);
  return operation == Binary::power ? power(a, b) : divide(operation, a, b);
}

Value negate(const Value& a) {
  if (const auto number = a.as_integer()) return subtract(0, *number);
  if (const double* number = a.real()) return -*number;
  if (a.is_undefined()) fail_undefined(a);
  fail(fmt::format("bad operand type for unary -: '{}'", a.type_name()));
}

Value positive(const Value& a) {
  if (const auto number = a.as_integer()) return *number;
  if (a.real()) return a;
  if (a.is_undefined()) fail_undefined(a);
  fail(fmt::format("bad operand type for unary +: '{}'", a.type_name()));
}

bool compare(Comparison comparison, const Value& a, const Value& b) {
  switch (comparison) {
    case Comparison::equal:
      return equals(a, b);
    case Comparison::unequal:
      return !equals(a, b);
    case Comparison::less:
      return in_order(a, Order::less, b);
    case Comparison::less_equal:
      return in_order(a, Order::less_equal, b);
    case Comparison::greater:
      return in_order(a, Order::greater, b);
    case Comparison::greater_equal:
      return in_order(a, Order::greater_equal, b);
    case Comparison::in:
      return contains(b, a);
    case Comparison::not_in:
      break;
  }
  return !contains(b, a);
}

Value slice(const Value& object, const std::optional<Value>& start, const std::optional<Value>& stop, const std::optional<Value>& step) {
  const auto from = bound(start), to = bound(stop), by = bound(step);
  if (const Text* text = object.text_object()) return text_slice(*text, span_of(*length_of(object), from, to, by));
  const List* list = object.list();
  if (!list || (!can_repeat(object) && list->form != Form::range)) {
    if (object.is_undefined()) fail_undefined(object);
    fail(fmt::format("'{}' object cannot be sliced", object.type_name()));
  }
  const Span span = span_of(static_cast<int64_t>(list->items.size()), from, to, by);
  if (list->form == Form::range) {
    const auto number = [&](int64_t index) { return list->start + index * list->step; };
    return make_range(number(span.start), number(span.stop), list->step * span.step);
  }
  std::vector<Value> items;
  items.reserve(static_cast<size_t>(span.count));
  for (int64_t i = 0; i < span.count; ++i) items.push_back(list->items[static_cast<size_t>(span.start + i * span.step)]);
  return Value::list(std::move(items), list->form);
}

std::optional<Value> item_at(const Value& sequence, int64_t index) {
  const int64_t size = *length_of(sequence);
  if (index < 0) index += size;
  if (index < 0 || index >= size) return std::nullopt;
  if (const List* list = sequence.list()) return list->items[static_cast<size_t>(index)];
  const Text& text = *sequence.text_object();
  return text_slice(text, {index, index + 1, 1, 1});
}

Value make_range(int64_t start, int64_t stop, int64_t step) {
  if (step == 0) fail("range() arg 3 must not be zero");
  auto list = std::make_shared<List>();
  list->form = Form::range;
  list->depth = 1;
  list->start = start;
  list->stop = stop;
  list->step = step;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (static_cast<int64_t>(list->items.size()) == kMaxRange) fail(fmt::format("a range of more than {} numbers", kMaxRange));
    list->items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return ListPtr(std::move(list));
}

}  // namespace bolide::jinja
