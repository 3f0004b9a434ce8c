// The expression half of the parser, and what both halves share: the tokens and the names.
#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_lexer.h"
#include "text/jinja_syntax.h"

namespace bolide::jinja {

class ExpressionParser {
 protected:
  ExpressionParser(std::vector<Token> tokens, Template& out) : template_(out), tokens_(std::move(tokens)) {}

  // Tokens.
  const Token& current() const { return tokens_[next_]; }
  const Token& look() const { return tokens_[std::min(next_ + 1, tokens_.size() - 1)]; }
  const Token& take() { return tokens_[next_ + 1 < tokens_.size() ? next_++ : next_]; }
  bool take_symbol(std::string_view symbol);
  bool take_name(std::string_view name);
  const Token& expect(TokenType type, std::string_view what);
  void expect_symbol(std::string_view symbol);
  [[noreturn]] void fail(std::string text, uint32_t position) const { throw SyntaxFailure{std::move(text), position}; }
  [[noreturn]] void fail_here(std::string_view expected) const;

  NameId name_id(const std::string& name);
  static bool is_constant_name(const std::string& name);

  // One level of nesting while it lives; fails above kMaxNesting.
  class Nesting {
   public:
    explicit Nesting(ExpressionParser& parser);
    ~Nesting() { --parser_.nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    ExpressionParser& parser_;
  };

  ExpressionPtr make(Expression::Node node, uint32_t position) const;

  // `conditional`: x if y else z is allowed. `end_names`: names that end a tuple without brackets.
  ExpressionPtr parse_tuple(bool conditional, std::initializer_list<std::string_view> end_names = {}, bool in_brackets = false);
  ExpressionPtr parse_expression(bool conditional = true);
  ExpressionPtr parse_unary(bool with_filters = true);
  // Filters behind `input`, which is null at the start of a filter block (`inside`: the first one has no '|').
  ExpressionPtr parse_filters(ExpressionPtr input, bool inside);

  Template& template_;
  // Inside an `if` an unknown filter or test is an error only once it is reached, as in Jinja; elsewhere the parser collects it here.
  bool lenient_ = false;
  std::vector<SyntaxFailure> unknown_;

 private:
  bool ends_tuple(std::initializer_list<std::string_view> end_names) const;
  ExpressionPtr parse_conditional();
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  bool take_comparison(Comparison& comparison);
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concatenation();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_primary();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr left);
  ExpressionPtr parse_filter_part(ExpressionPtr left);
  ExpressionPtr parse_subscript(ExpressionPtr object);
  ExpressionPtr parse_bracket(ExpressionPtr object, uint32_t position);
  ExpressionPtr parse_test(ExpressionPtr left);
  CallArguments parse_arguments();
  void parse_argument(CallArguments& arguments, uint32_t open);

  std::vector<Token> tokens_;
  size_t next_ = 0;
  int nesting_ = 0;
  std::map<std::string, NameId, std::less<>> ids_;
};

}  // namespace bolide::jinja
