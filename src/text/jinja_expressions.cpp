// The expressions of a template.
#include <fmt/format.h>

#include "text/jinja_filters.h"
#include "text/jinja_operators.h"
#include "text/jinja_repr.h"
#include "text/jinja_runtime.h"

namespace bolide::jinja {

Value Runtime::evaluate(const Expression& expression) {
  const Deeper level(*this);
  charge(1);
  return std::visit([&](const auto& node) { return value(node, expression.position); }, expression.node);
}

Value Runtime::value(const Constant& node, uint32_t) { return node.value; }

Value Runtime::value(const Name& node, uint32_t at) {
  at_ = at;
  return lookup(node.name);
}

Value Runtime::value(const ListDisplay& node, uint32_t at) {
  std::vector<Value> items;
  items.reserve(node.items.size());
  for (const ExpressionPtr& item : node.items) items.push_back(evaluate(*item));
  at_ = at;
  return Value::list(std::move(items), node.form);
}

Value Runtime::value(const DictDisplay& node, uint32_t at) {
  auto dict = std::make_shared<Dict>();
  for (const auto& [key, entry] : node.entries) {
    Value k = evaluate(*key), v = evaluate(*entry);
    at_ = at;
    dict->set(std::move(k), std::move(v));
  }
  return DictPtr(std::move(dict));
}

Value Runtime::value(const Attribute& node, uint32_t at) {
  const Value object = evaluate(*node.object);
  at_ = at;
  return attribute(object, node.name);
}

Value Runtime::value(const Item& node, uint32_t at) {
  const Value object = evaluate(*node.object), key = evaluate(*node.key);
  at_ = at;
  return item(object, key);
}

Value Runtime::value(const Slice& node, uint32_t at) {
  const auto bound = [&](const ExpressionPtr& expression) { return expression ? std::optional(evaluate(*expression)) : std::nullopt; };
  const Value object = evaluate(*node.object);
  const auto start = bound(node.start), stop = bound(node.stop), step = bound(node.step);
  at_ = at;
  Value out = slice(object, start, stop, step);
  charge_text(out);
  return out;
}

Arguments Runtime::evaluate_arguments(const CallArguments& arguments) {
  Arguments out;
  for (const ExpressionPtr& each : arguments.positional) out.positional.push_back(evaluate(*each));
  for (const auto& [name, each] : arguments.named) out.named.emplace_back(name, evaluate(*each));
  if (arguments.more_positional) {
    for (Value& each : all_items(evaluate(*arguments.more_positional))) out.positional.push_back(std::move(each));
  }
  if (!arguments.more_named) return out;
  const Value more = evaluate(*arguments.more_named);
  if (!more.dict()) fail(fmt::format("the argument behind ** is {}, not a dict", more.type_name()));
  for (const auto& [key, each] : more.dict()->entries()) {
    if (!key.text()) fail("keywords must be strings");
    for (const auto& [name, given] : out.named) {
      if (name == *key.text()) fail(fmt::format("the argument '{}' is given twice", name));
    }
    out.named.emplace_back(*key.text(), each);
  }
  return out;
}

Value Runtime::value(const Call& node, uint32_t at) { return call_node(node, at, nullptr); }

Value Runtime::call_node(const Call& node, uint32_t at, const Value* caller) {
  // A method is called where it is found, without making an object of it.
  const auto* method = std::get_if<Attribute>(&node.callee->node);
  const Value object = method ? evaluate(*method->object) : Value();
  at_ = node.callee->position;
  const MethodFunction function = method ? find_method(object, method->name) : nullptr;
  const Value callee = function ? Value() : method ? attribute(object, method->name) : evaluate(*node.callee);
  Arguments arguments = evaluate_arguments(node.arguments);
  if (caller) arguments.named.emplace_back("caller", *caller);
  at_ = at;
  Value out = function ? function(*this, object, arguments) : call(callee, arguments);
  if (function && out.is_text() && object.text_object() && object.text_object()->markup) out = Value(*out.text(), true);
  charge_text(out);
  return out;
}

Value Runtime::value(const FilterUse& node, uint32_t at) {
  const Value input = node.input ? evaluate(*node.input) : std::exchange(block_text_, Value());
  Arguments arguments = evaluate_arguments(node.arguments);
  at_ = at;
  Value out = apply_filter(node.name, input, arguments);
  charge_text(out);
  return out;
}

Value Runtime::value(const TestUse& node, uint32_t at) {
  const Value input = evaluate(*node.input);
  Arguments arguments = evaluate_arguments(node.arguments);
  at_ = at;
  return apply_test(node.name, input, arguments);
}

Value Runtime::value(const UnaryUse& node, uint32_t at) {
  const Value operand = evaluate(*node.operand);
  at_ = at;
  switch (node.operation) {
    case Unary::not_:
      return !operand.truth();
    case Unary::minus:
      return negate(operand);
    case Unary::plus:
      break;
  }
  return positive(operand);
}

Value Runtime::value(const BinaryUse& node, uint32_t at) {
  const Value left = evaluate(*node.left), right = evaluate(*node.right);
  at_ = at;
  Value out = operate(node.operation, left, right);
  charge_text(out);
  return out;
}

Value Runtime::value(const LogicUse& node, uint32_t) {
  Value left = evaluate(*node.left);
  return left.truth() == (node.operation == Logic::or_) ? left : evaluate(*node.right);
}

Value Runtime::value(const Concatenation& node, uint32_t at) {
  std::string text;
  for (const ExpressionPtr& part : node.parts) {
    const Value piece = evaluate(*part);
    at_ = at;
    if (const std::string* plain = piece.text())
      text += *plain;
    else
      text += text_of(piece);
    require_size(text.size());
  }
  Value out(std::move(text));
  charge_text(out);
  return out;
}

Value Runtime::value(const Compare& node, uint32_t at) {
  Value left = evaluate(*node.first);
  for (const auto& [comparison, expression] : node.others) {
    Value right = evaluate(*expression);
    at_ = at;
    if (const List* list = right.list(); list && (comparison == Comparison::in || comparison == Comparison::not_in))
      charge(list->items.size() / 4);
    if (!compare(comparison, left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Runtime::value(const Conditional& node, uint32_t at) {
  if (evaluate(*node.test).truth()) return evaluate(*node.value);
  if (node.otherwise) return evaluate(*node.otherwise);
  at_ = at;
  return Value::undefined("the inline if-expression evaluated to false and no else section was defined");
}

}  // namespace bolide::jinja
