// What follows an operand: attributes, items, slices, calls, filters, tests.
#include <fmt/format.h>

#include <algorithm>

#include "text/jinja_filters.h"
#include "text/jinja_parse_expressions.h"

namespace bolide::jinja {

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr left) {
  for (;;) {
    const Token& token = current();
    if (token.is_symbol(".") || token.is_symbol("[")) {
      left = parse_subscript(std::move(left));
    } else if (token.is_symbol("(")) {
      const uint32_t position = token.position;
      CallArguments arguments = parse_arguments();
      left = make(Call{std::move(left), std::move(arguments)}, position);
    } else {
      return left;
    }
  }
}

ExpressionPtr ExpressionParser::parse_filter_part(ExpressionPtr left) {
  for (;;) {
    const Token& token = current();
    if (token.is_symbol("|")) {
      left = parse_filters(std::move(left), false);
    } else if (token.is_name("is")) {
      left = parse_test(std::move(left));
    } else if (token.is_symbol("(")) {
      const uint32_t position = token.position;
      CallArguments arguments = parse_arguments();
      left = make(Call{std::move(left), std::move(arguments)}, position);
    } else {
      return left;
    }
  }
}

ExpressionPtr ExpressionParser::parse_subscript(ExpressionPtr object) {
  const Token& token = take();
  if (token.text == "[") return parse_bracket(std::move(object), token.position);
  const Token& name = take();
  if (name.type == TokenType::name) return make(Attribute{std::move(object), name.text}, token.position);
  if (name.type != TokenType::integer) fail("expected a name or a number behind '.'", name.position);
  return make(Item{std::move(object), make(Constant{Value(name.integer)}, name.position)}, token.position);
}

ExpressionPtr ExpressionParser::parse_bracket(ExpressionPtr object, uint32_t position) {
  const auto at_end = [&] { return current().is_symbol("]") || current().is_symbol(","); };
  if (at_end()) fail_here("an index or a slice");
  ExpressionPtr first = current().is_symbol(":") ? nullptr : parse_expression();
  if (take_symbol(":")) {
    Slice slice{std::move(object), std::move(first), nullptr, nullptr};
    if (!at_end() && !current().is_symbol(":")) slice.stop = parse_expression();
    if (take_symbol(":") && !at_end()) slice.step = parse_expression();
    expect_symbol("]");
    return make(std::move(slice), position);
  }
  if (current().is_symbol(",")) {
    std::vector<ExpressionPtr> items;
    items.push_back(std::move(first));
    while (take_symbol(",")) items.push_back(parse_expression());
    first = make(ListDisplay{std::move(items), Form::tuple}, position);
  }
  expect_symbol("]");
  return make(Item{std::move(object), std::move(first)}, position);
}

void ExpressionParser::parse_argument(CallArguments& arguments, uint32_t open) {
  const auto ensure = [&](bool allowed) {
    if (!allowed) fail("arguments of a call are in the wrong order: first plain ones, then name=value, then *list, then **dict", open);
  };
  if (take_symbol("*")) {
    ensure(!arguments.more_positional && !arguments.more_named);
    arguments.more_positional = parse_expression();
  } else if (take_symbol("**")) {
    ensure(!arguments.more_named);
    arguments.more_named = parse_expression();
  } else if (current().type == TokenType::name && look().is_symbol("=")) {
    ensure(!arguments.more_named);
    const Token& name = take();
    take();
    const bool again =
        std::any_of(arguments.named.begin(), arguments.named.end(), [&](const auto& each) { return each.first == name.text; });
    if (again) fail(fmt::format("the argument '{}' is given twice", name.text), name.position);
    arguments.named.emplace_back(name.text, parse_expression());
  } else {
    ensure(!arguments.more_positional && !arguments.more_named && arguments.named.empty());
    arguments.positional.push_back(parse_expression());
  }
}

CallArguments ExpressionParser::parse_arguments() {
  const uint32_t open = current().position;
  expect_symbol("(");
  CallArguments arguments;
  while (!current().is_symbol(")")) {
    parse_argument(arguments, open);
    if (!current().is_symbol(")")) expect_symbol(",");
  }
  take();
  return arguments;
}

ExpressionPtr ExpressionParser::parse_filters(ExpressionPtr input, bool inside) {
  while (inside || current().is_symbol("|")) {
    if (!inside) take();
    inside = false;
    const Token& token = expect(TokenType::name, "the name of a filter");
    std::string name = token.text;
    while (take_symbol(".")) name += "." + expect(TokenType::name, "a name").text;
    if (!lenient_ && !is_filter(name)) unknown_.push_back({fmt::format("no filter named '{}'", name), token.position});
    CallArguments arguments = current().is_symbol("(") ? parse_arguments() : CallArguments{};
    input = make(FilterUse{std::move(input), std::move(name), std::move(arguments)}, token.position);
  }
  return input;
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr left) {
  const uint32_t position = take().position;
  const bool negated = take_name("not");
  const Token& token = expect(TokenType::name, "the name of a test");
  std::string name = token.text;
  while (take_symbol(".")) name += "." + expect(TokenType::name, "a name").text;
  if (!lenient_ && !is_test(name)) unknown_.push_back({fmt::format("no test named '{}'", name), token.position});
  CallArguments arguments;
  const Token& next = current();
  const bool operand = next.type == TokenType::name || next.type == TokenType::text || next.type == TokenType::integer ||
                       next.type == TokenType::real || next.is_symbol("[") || next.is_symbol("{");
  if (next.is_symbol("(")) {
    arguments = parse_arguments();
  } else if (operand && !next.is_name("else") && !next.is_name("or") && !next.is_name("and")) {
    if (next.is_name("is")) fail("tests cannot be chained with 'is'", next.position);
    arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  ExpressionPtr test = make(TestUse{std::move(left), std::move(name), std::move(arguments)}, position);
  return negated ? make(UnaryUse{Unary::not_, std::move(test)}, position) : std::move(test);
}

}  // namespace bolide::jinja
