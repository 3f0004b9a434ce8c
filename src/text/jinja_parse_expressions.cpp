#include "text/jinja_parse_expressions.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/jinja_filters.h"

namespace bolide::jinja {
namespace {

constexpr int kMaxNesting = 150;    // brackets and blocks within each other
constexpr int kMaxTreeDepth = 400;  // a + b + c + ... and a.b.c. ... too

std::string shown(const Token& token) {
  switch (token.type) {
    case TokenType::data:
      return "text";
    case TokenType::print_begin:
      return "'{{'";
    case TokenType::print_end:
      return "'}}'";
    case TokenType::block_begin:
      return "'{%'";
    case TokenType::block_end:
      return "the end of the tag ('%}')";
    case TokenType::text:
      return "a string";
    case TokenType::integer:
    case TokenType::real:
      return "a number";
    case TokenType::end:
      return "the end of the template";
    case TokenType::name:
    case TokenType::symbol:
      break;
  }
  return fmt::format("'{}'", token.text);
}

int depth_of(const ExpressionPtr& expression) { return expression ? expression->depth : 0; }

struct DepthOfChildren {
  int most = 0;
  void add(const ExpressionPtr& child) { most = std::max(most, depth_of(child)); }
  void add(const CallArguments& arguments) {
    for (const auto& each : arguments.positional) add(each);
    for (const auto& [name, each] : arguments.named) add(each);
    add(arguments.more_positional);
    add(arguments.more_named);
  }
  void operator()(const Constant&) {}
  void operator()(const Name&) {}
  void operator()(const ListDisplay& node) {
    for (const auto& each : node.items) add(each);
  }
  void operator()(const DictDisplay& node) {
    for (const auto& [key, value] : node.entries) add(key), add(value);
  }
  void operator()(const Attribute& node) { add(node.object); }
  void operator()(const Item& node) { add(node.object), add(node.key); }
  void operator()(const Slice& node) { add(node.object), add(node.start), add(node.stop), add(node.step); }
  void operator()(const Call& node) { add(node.callee), add(node.arguments); }
  void operator()(const FilterUse& node) { add(node.input), add(node.arguments); }
  void operator()(const TestUse& node) { add(node.input), add(node.arguments); }
  void operator()(const UnaryUse& node) { add(node.operand); }
  void operator()(const BinaryUse& node) { add(node.left), add(node.right); }
  void operator()(const LogicUse& node) { add(node.left), add(node.right); }
  void operator()(const Concatenation& node) {
    for (const auto& each : node.parts) add(each);
  }
  void operator()(const Compare& node) {
    add(node.first);
    for (const auto& [comparison, each] : node.others) add(each);
  }
  void operator()(const Conditional& node) { add(node.test), add(node.value), add(node.otherwise); }
};

}  // namespace

ExpressionParser::Nesting::Nesting(ExpressionParser& parser) : parser_(parser) {
  if (++parser.nesting_ <= kMaxNesting) return;
  --parser.nesting_;
  parser.fail(fmt::format("blocks and brackets nest deeper than {} levels", kMaxNesting), parser.current().position);
}

bool ExpressionParser::take_symbol(std::string_view symbol) {
  if (!current().is_symbol(symbol)) return false;
  take();
  return true;
}

bool ExpressionParser::take_name(std::string_view name) {
  if (!current().is_name(name)) return false;
  take();
  return true;
}

const Token& ExpressionParser::expect(TokenType type, std::string_view what) {
  if (current().type != type) fail_here(what);
  return take();
}

void ExpressionParser::expect_symbol(std::string_view symbol) {
  if (!take_symbol(symbol)) fail_here(fmt::format("'{}'", symbol));
}

void ExpressionParser::fail_here(std::string_view expected) const {
  fail(fmt::format("expected {}, found {}", expected, shown(current())), current().position);
}

NameId ExpressionParser::name_id(const std::string& name) {
  const auto [slot, added] = ids_.try_emplace(name, static_cast<NameId>(template_.names.size()));
  if (added) template_.names.push_back(name);
  return slot->second;
}

bool ExpressionParser::is_constant_name(const std::string& name) {
  return name == "true" || name == "false" || name == "none" || name == "True" || name == "False" || name == "None";
}

ExpressionPtr ExpressionParser::make(Expression::Node node, uint32_t position) const {
  DepthOfChildren children;
  std::visit(children, node);
  if (children.most >= kMaxTreeDepth) fail(fmt::format("an expression is deeper than {} operations", kMaxTreeDepth), position);
  return std::make_unique<Expression>(Expression{std::move(node), position, children.most + 1});
}

bool ExpressionParser::ends_tuple(std::initializer_list<std::string_view> end_names) const {
  const Token& token = current();
  if (token.type == TokenType::print_end || token.type == TokenType::block_end || token.is_symbol(")")) return true;
  return std::any_of(end_names.begin(), end_names.end(), [&](std::string_view name) { return token.is_name(name); });
}

ExpressionPtr ExpressionParser::parse_tuple(bool conditional, std::initializer_list<std::string_view> end_names, bool in_brackets) {
  const uint32_t position = current().position;
  std::vector<ExpressionPtr> items;
  bool is_tuple = false;
  while (!ends_tuple(end_names)) {
    items.push_back(parse_expression(conditional));
    if (!take_symbol(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !items.empty()) return std::move(items.front());
  if (!is_tuple && !in_brackets) fail_here("an expression");
  return make(ListDisplay{std::move(items), Form::tuple}, position);
}

ExpressionPtr ExpressionParser::parse_expression(bool conditional) {
  const Nesting level(*this);
  return conditional ? parse_conditional() : parse_or();
}

ExpressionPtr ExpressionParser::parse_conditional() {
  const bool outer = lenient_;
  const size_t known_before = unknown_.size();
  ExpressionPtr value = parse_or();
  while (current().is_name("if")) {
    const uint32_t position = take().position;
    unknown_.resize(known_before, {"", 0});
    lenient_ = true;
    ExpressionPtr test = parse_or();
    ExpressionPtr otherwise = take_name("else") ? parse_expression() : nullptr;
    value = make(Conditional{std::move(test), std::move(value), std::move(otherwise)}, position);
  }
  lenient_ = outer;
  return value;
}

ExpressionPtr ExpressionParser::parse_or() {
  ExpressionPtr left = parse_and();
  while (current().is_name("or")) {
    const uint32_t position = take().position;
    ExpressionPtr right = parse_and();
    left = make(LogicUse{Logic::or_, std::move(left), std::move(right)}, position);
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_and() {
  ExpressionPtr left = parse_not();
  while (current().is_name("and")) {
    const uint32_t position = take().position;
    ExpressionPtr right = parse_not();
    left = make(LogicUse{Logic::and_, std::move(left), std::move(right)}, position);
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_not() {
  if (!current().is_name("not")) return parse_compare();
  const Nesting level(*this);
  const uint32_t position = take().position;
  return make(UnaryUse{Unary::not_, parse_not()}, position);
}

bool ExpressionParser::take_comparison(Comparison& comparison) {
  static constexpr std::pair<std::string_view, Comparison> kSymbols[] = {{"==", Comparison::equal},  {"!=", Comparison::unequal},
                                                                         {"<", Comparison::less},    {"<=", Comparison::less_equal},
                                                                         {">", Comparison::greater}, {">=", Comparison::greater_equal}};
  for (const auto& [symbol, which] : kSymbols) {
    if (take_symbol(symbol)) return comparison = which, true;
  }
  if (take_name("in")) return comparison = Comparison::in, true;
  if (!current().is_name("not") || !look().is_name("in")) return false;
  take();
  take();
  return comparison = Comparison::not_in, true;
}

ExpressionPtr ExpressionParser::parse_compare() {
  ExpressionPtr first = parse_sum();
  const uint32_t position = current().position;
  std::vector<std::pair<Comparison, ExpressionPtr>> others;
  for (Comparison comparison; take_comparison(comparison);) others.emplace_back(comparison, parse_sum());
  return others.empty() ? std::move(first) : make(Compare{std::move(first), std::move(others)}, position);
}

ExpressionPtr ExpressionParser::parse_sum() {
  ExpressionPtr left = parse_concatenation();
  while (current().is_symbol("+") || current().is_symbol("-")) {
    const Token& symbol = take();
    const Binary operation = symbol.text == "+" ? Binary::add : Binary::subtract;
    ExpressionPtr right = parse_concatenation();
    left = make(BinaryUse{operation, std::move(left), std::move(right)}, symbol.position);
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_concatenation() {
  std::vector<ExpressionPtr> parts;
  parts.push_back(parse_product());
  const uint32_t position = current().position;
  while (take_symbol("~")) parts.push_back(parse_product());
  return parts.size() == 1 ? std::move(parts.front()) : make(Concatenation{std::move(parts)}, position);
}

ExpressionPtr ExpressionParser::parse_product() {
  static constexpr std::pair<std::string_view, Binary> kSymbols[] = {
      {"*", Binary::multiply}, {"/", Binary::divide}, {"//", Binary::floor_divide}, {"%", Binary::modulo}};
  ExpressionPtr left = parse_power();
  for (;;) {
    const auto found =
        std::find_if(std::begin(kSymbols), std::end(kSymbols), [&](const auto& each) { return current().is_symbol(each.first); });
    if (found == std::end(kSymbols)) return left;
    const uint32_t position = take().position;
    ExpressionPtr right = parse_power();
    left = make(BinaryUse{found->second, std::move(left), std::move(right)}, position);
  }
}

ExpressionPtr ExpressionParser::parse_power() {
  ExpressionPtr left = parse_unary();
  while (current().is_symbol("**")) {
    const uint32_t position = take().position;
    ExpressionPtr right = parse_unary();
    left = make(BinaryUse{Binary::power, std::move(left), std::move(right)}, position);
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filters) {
  const Nesting level(*this);
  ExpressionPtr node;
  if (current().is_symbol("-") || current().is_symbol("+")) {
    const Token& symbol = take();
    node = make(UnaryUse{symbol.text == "-" ? Unary::minus : Unary::plus, parse_unary(false)}, symbol.position);
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filters ? parse_filter_part(std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::parse_primary() {
  const Token& token = current();
  if (token.is_symbol("[")) return parse_list();
  if (token.is_symbol("{")) return parse_dict();
  if (token.is_symbol("(")) {
    take();
    ExpressionPtr inner = parse_tuple(true, {}, true);
    expect_symbol(")");
    return inner;
  }
  switch (token.type) {
    case TokenType::integer:
      return make(Constant{Value(take().integer)}, token.position);
    case TokenType::real:
      return make(Constant{Value(take().real)}, token.position);
    case TokenType::text: {
      std::string text;
      while (current().type == TokenType::text) text += take().text;
      template_.literals.push_back(text);
      return make(Constant{Value(std::move(text))}, token.position);
    }
    case TokenType::name:
      break;
    default:
      fail_here("an expression");
  }
  take();
  if (token.text == "none" || token.text == "None") return make(Constant{Value(None{})}, token.position);
  if (is_constant_name(token.text)) return make(Constant{Value(token.text == "true" || token.text == "True")}, token.position);
  const NameId name = name_id(token.text);
  template_.read.insert(name);
  return make(Name{name}, token.position);
}

ExpressionPtr ExpressionParser::parse_list() {
  const uint32_t position = take().position;
  std::vector<ExpressionPtr> items;
  while (!current().is_symbol("]")) {
    if (!items.empty()) expect_symbol(",");
    if (current().is_symbol("]")) break;
    items.push_back(parse_expression());
  }
  take();
  return make(ListDisplay{std::move(items), Form::list}, position);
}

ExpressionPtr ExpressionParser::parse_dict() {
  const uint32_t position = take().position;
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> entries;
  while (!current().is_symbol("}")) {
    if (!entries.empty()) expect_symbol(",");
    if (current().is_symbol("}")) break;
    ExpressionPtr key = parse_expression();
    expect_symbol(":");
    ExpressionPtr value = parse_expression();
    entries.emplace_back(std::move(key), std::move(value));
  }
  take();
  return make(DictDisplay{std::move(entries)}, position);
}

}  // namespace bolide::jinja
