// The tests behind `is`.
#include <fmt/format.h>

#include <unordered_map>

#include "text/jinja_filters.h"
#include "text/jinja_operators.h"
#include "text/jinja_repr.h"
#include "text/jinja_text.h"

namespace bolide::jinja {
namespace {

using Table = std::unordered_map<std::string_view, TestFunction>;

template <Comparison Which>
bool compared(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters parameters("test", arguments, {"other"}, 1);
  return compare(Which, input, *parameters[0]);
}

template <int Rest>
bool has_parity(Runtime&, const Value& input, Arguments&) {
  const Value rest = operate(Binary::modulo, input, 2);
  return rest.as_number() == Rest;
}

bool divisible(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters parameters("divisibleby", arguments, {"num"}, 1);
  return operate(Binary::modulo, input, *parameters[0]).as_number() == 0;
}

bool is_mapping(const Value& value) { return value.dict() != nullptr; }
bool is_iterable(const Value& value) {
  return value.is_undefined() || value.is_text() || value.list() || value.dict() || value.generator();
}
bool is_sequence(const Value& value) {
  const List* list = value.list();
  const bool view = list && (list->form == Form::keys || list->form == Form::values || list->form == Form::items);
  return is_iterable(value) && !value.generator() && !view;
}
bool is_true(const Value& value) { return value.boolean() && *value.boolean(); }
bool is_false(const Value& value) { return value.boolean() && !*value.boolean(); }
bool is_number(const Value& value) { return value.as_number().has_value(); }
bool is_callable(const Value& value) {
  // Calling an undefined value fails, but Python's callable() holds for it.
  return value.is_undefined() || (value.object() && value.object()->callable());
}
bool is_lower_text(const Value& value) { return is_lower(text_of(value)); }
bool is_upper_text(const Value& value) { return is_upper(text_of(value)); }
bool is_markup(const Value& value) { return value.text_object() && value.text_object()->markup; }

template <bool (*Function)(const Value&)>
bool plain(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters none("test", arguments, {});
  return Function(input);
}

template <bool (Value::*Method)() const>
bool of_kind(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters none("test", arguments, {});
  return (input.*Method)();
}

bool is_defined(const Value& value) { return !value.is_undefined(); }
bool is_boolean(const Value& value) { return value.boolean() != nullptr; }
bool is_integer(const Value& value) { return value.integer() != nullptr; }
bool is_real(const Value& value) { return value.real() != nullptr; }

bool same_as(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters parameters("sameas", arguments, {"other"}, 1);
  return same_object(input, *parameters[0]);
}

template <bool (*Known)(std::string_view)>
bool is_known(Runtime&, const Value& input, Arguments&) {
  return input.text() && Known(*input.text());
}

const Table& test_table() {
  static const Table table{{"!=", compared<Comparison::unequal>},
                           {"<", compared<Comparison::less>},
                           {"<=", compared<Comparison::less_equal>},
                           {"==", compared<Comparison::equal>},
                           {">", compared<Comparison::greater>},
                           {">=", compared<Comparison::greater_equal>},
                           {"boolean", plain<is_boolean>},
                           {"callable", plain<is_callable>},
                           {"defined", plain<is_defined>},
                           {"divisibleby", divisible},
                           {"eq", compared<Comparison::equal>},
                           {"equalto", compared<Comparison::equal>},
                           {"escaped", plain<is_markup>},
                           {"even", has_parity<0>},
                           {"false", plain<is_false>},
                           {"filter", is_known<is_filter>},
                           {"float", plain<is_real>},
                           {"ge", compared<Comparison::greater_equal>},
                           {"greaterthan", compared<Comparison::greater>},
                           {"gt", compared<Comparison::greater>},
                           {"in", compared<Comparison::in>},
                           {"integer", plain<is_integer>},
                           {"iterable", plain<is_iterable>},
                           {"le", compared<Comparison::less_equal>},
                           {"lessthan", compared<Comparison::less>},
                           {"lower", plain<is_lower_text>},
                           {"lt", compared<Comparison::less>},
                           {"mapping", plain<is_mapping>},
                           {"ne", compared<Comparison::unequal>},
                           {"none", of_kind<&Value::is_none>},
                           {"number", plain<is_number>},
                           {"odd", has_parity<1>},
                           {"sameas", same_as},
                           {"sequence", plain<is_sequence>},
                           {"string", of_kind<&Value::is_text>},
                           {"test", is_known<is_test>},
                           {"true", plain<is_true>},
                           {"undefined", of_kind<&Value::is_undefined>},
                           {"upper", plain<is_upper_text>}};
  return table;
}

}  // namespace

bool is_test(std::string_view name) { return test_table().contains(name); }

bool Runtime::apply_test(const std::string& name, const Value& input, Arguments& arguments) {
  const auto found = test_table().find(name);
  if (found == test_table().end()) fail(fmt::format("no test named '{}'", name));
  return found->second(*this, input, arguments);
}

}  // namespace bolide::jinja
