#include "text/jinja_parser.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/jinja_parse_expressions.h"
#include "text/jinja_text.h"

namespace bolide::jinja {
namespace {

class Parser : ExpressionParser {
 public:
  Parser(std::vector<Token> tokens, Template& out) : ExpressionParser(std::move(tokens), out) {
    template_.caller = name_id("caller");
    template_.varargs = name_id("varargs");
    template_.kwargs = name_id("kwargs");
    template_.loop = name_id("loop");
  }

  void run() {
    template_.body = parse_body({}, 0);
    if (!unknown_.empty()) throw unknown_.front();
  }

 private:
  using Ends = std::initializer_list<std::string_view>;

  // What a block's body is parsed within; put back at its end.
  struct Surroundings {
    explicit Surroundings(Parser& owner) : parser(owner), lenient(owner.lenient_), in_loop(owner.in_loop_) {}
    ~Surroundings() {
      parser.lenient_ = lenient;
      parser.in_loop_ = in_loop;
    }
    Parser& parser;
    bool lenient, in_loop;
  };

  // Statements up to a tag of one of these names, whose name is taken; without names to the end of the template.
  Body parse_body(Ends ends, uint32_t open) {
    const Nesting level(*this);
    Body body;
    for (;;) {
      const Token& token = take();
      if (token.type == TokenType::end) {
        if (ends.size() == 0) return body;
        fail(fmt::format("this block is not closed by '{{% {} %}}'", *(ends.end() - 1)), open);
      }
      if (token.type == TokenType::data) {
        template_.literals.push_back(token.text);
        body.push_back({Data{Value(token.text)}, token.position});
      } else if (token.type == TokenType::print_begin) {
        body.push_back({Print{parse_tuple(true)}, token.position});
        expect(TokenType::print_end, "'}}'");
      } else {
        if (current().type == TokenType::name && std::find(ends.begin(), ends.end(), current().text) != ends.end()) return body;
        parse_statement(body);
        expect(TokenType::block_end, "the end of the tag ('%}')");
      }
    }
  }

  // The body behind a tag that ends here, up to the end of the tag of one of `ends`; returns which one.
  std::string parse_block(Ends ends, uint32_t open, Body& body) {
    take_symbol(":");
    expect(TokenType::block_end, "the end of the tag ('%}')");
    body = parse_body(ends, open);
    return take().text;
  }

  void parse_statement(Body& body) {
    const Token& tag = expect(TokenType::name, "the name of a tag");
    const uint32_t at = tag.position;
    if (tag.text == "if") return body.push_back({parse_if(at), at});
    if (tag.text == "for") return body.push_back({parse_for(at), at});
    if (tag.text == "set") return parse_set(at, body);
    if (tag.text == "macro") return body.push_back({parse_macro(at), at});
    if (tag.text == "call") return body.push_back({parse_call(at), at});
    if (tag.text == "filter") return body.push_back({parse_filter_block(at), at});
    if (tag.text == "with") return body.push_back({parse_with(at), at});
    if (tag.text == "generation") return body.push_back({parse_generation(at), at});
    if (tag.text == "print") return parse_print(at, body);
    if (tag.text == "break" || tag.text == "continue") {
      if (!in_loop_) fail(fmt::format("'{}' stands outside of a loop", tag.text), at);
      const bool leaves = tag.text == "break";
      body.push_back({leaves ? Statement::Node(Break{}) : Statement::Node(Continue{}), at});
      return;
    }
    refuse(tag);
  }

  [[noreturn]] void refuse(const Token& tag) const {
    static constexpr std::string_view kOthers[] = {"extends", "include", "import", "from", "block", "autoescape"};
    if (std::find(std::begin(kOthers), std::end(kOthers), tag.text) != std::end(kOthers))
      fail(fmt::format("the tag '{}' is not supported: a chat template stands alone", tag.text), tag.position);
    if (tag.text.starts_with("end") || tag.text == "else" || tag.text == "elif")
      fail(fmt::format("'{}' has no block that it belongs to", tag.text), tag.position);
    fail(fmt::format("unknown tag '{}'", tag.text), tag.position);
  }

  If parse_if(uint32_t open) {
    const Surroundings outer(*this);
    lenient_ = true;
    If out;
    for (;;) {
      ExpressionPtr test = parse_tuple(false);
      Body body;
      const std::string end = parse_block({"elif", "else", "endif"}, open, body);
      out.branches.emplace_back(std::move(test), std::move(body));
      if (end == "endif") return out;
      if (end == "elif") continue;
      parse_block({"endif"}, open, out.otherwise);
      return out;
    }
  }

  For parse_for(uint32_t open) {
    const Surroundings outer(*this);
    For out;
    out.target = parse_target(false);
    forbid_loop_name(out.target);
    if (!take_name("in")) fail_here("'in'");
    out.over = parse_tuple(false, {"recursive", "if"});
    lenient_ = false;
    if (take_name("if")) out.only_if = parse_expression();
    out.recursive = take_name("recursive");
    in_loop_ = true;
    const std::string end = parse_block({"else", "endfor"}, open, out.body);
    in_loop_ = outer.in_loop;
    if (end == "else") parse_block({"endfor"}, open, out.otherwise);
    return out;
  }

  void forbid_loop_name(const Target& target) const {
    if (target.name == template_.loop) fail("a loop cannot assign to its own variable 'loop'", target.position);
    for (const Target& part : target.parts) forbid_loop_name(part);
  }

  void parse_set(uint32_t at, Body& body) {
    Target target = parse_target(true);
    if (take_symbol("=")) {
      body.push_back({Set{std::move(target), parse_tuple(true)}, at});
      return;
    }
    const Surroundings outer(*this);
    lenient_ = false;
    ExpressionPtr filter = parse_filters(nullptr, false);
    SetBlock block{std::move(target), std::move(filter), {}};
    parse_block({"endset"}, at, block.body);
    body.push_back({std::move(block), at});
  }

  // A name, a tuple of names with or without brackets, and for `set` attributes of namespaces.
  Target parse_target(bool attributes) {
    Target first = parse_one_target(attributes);
    if (!current().is_symbol(",")) return first;
    Target all;
    all.position = first.position;
    all.parts.push_back(std::move(first));
    while (take_symbol(",")) {
      if (current().is_name("in") || current().is_symbol("=") || current().is_symbol(")")) break;
      all.parts.push_back(parse_one_target(attributes));
    }
    return all;
  }

  Target parse_one_target(bool attributes) {
    const Nesting level(*this);
    const Token& token = current();
    if (take_symbol("(")) {
      Target inner = parse_target(false);
      expect_symbol(")");
      return inner;
    }
    expect(TokenType::name, "a name to assign to");
    if (is_constant_name(token.text)) fail(fmt::format("cannot assign to '{}'", token.text), token.position);
    Target out;
    out.name = name_id(token.text);
    out.position = token.position;
    if (attributes && take_symbol(".")) {
      out.attribute = expect(TokenType::name, "a name behind '.'").text;
      template_.read.insert(out.name);
    }
    return out;
  }

  NameId parse_name() {
    const Token& token = expect(TokenType::name, "a name");
    if (is_constant_name(token.text)) fail(fmt::format("cannot assign to '{}'", token.text), token.position);
    return name_id(token.text);
  }

  Signature parse_signature() {
    Signature out;
    expect_symbol("(");
    while (!current().is_symbol(")")) {
      if (!out.names.empty()) expect_symbol(",");
      const uint32_t at = current().position;
      const NameId name = parse_name();
      if (std::find(out.names.begin(), out.names.end(), name) != out.names.end())
        fail(fmt::format("the parameter '{}' is there twice", template_.names[static_cast<size_t>(name)]), at);
      out.names.push_back(name);
      if (take_symbol("="))
        out.defaults.push_back(parse_expression());
      else if (!out.defaults.empty())
        fail("a parameter without a default follows one with a default", at);
    }
    take();
    return out;
  }

  // The body of a macro, and which of the special names it reads.
  std::shared_ptr<const Macro> parse_macro_body(NameId name, Signature signature, std::string_view end, uint32_t open) {
    const Surroundings outer(*this);
    lenient_ = in_loop_ = false;
    std::set<NameId> read_outside;
    read_outside.swap(template_.read);
    auto macro = std::make_shared<Macro>();
    macro->name = name;
    macro->signature = std::move(signature);
    parse_block({end}, open, macro->body);
    const auto reads = [&](NameId special) {
      const auto& names = macro->signature.names;
      return template_.read.contains(special) && std::find(names.begin(), names.end(), special) == names.end();
    };
    macro->reads_caller = reads(template_.caller);
    macro->reads_varargs = reads(template_.varargs);
    macro->reads_kwargs = reads(template_.kwargs);
    template_.read.merge(read_outside);
    return macro;
  }

  std::shared_ptr<const Macro> parse_macro(uint32_t open) {
    const NameId name = parse_name();
    Signature signature = parse_signature();
    return parse_macro_body(name, std::move(signature), "endmacro", open);
  }

  CallBlock parse_call(uint32_t open) {
    Signature signature;
    if (current().is_symbol("(")) signature = parse_signature();
    ExpressionPtr call = parse_expression();
    if (!std::holds_alternative<Call>(call->node)) fail("a call block needs a call: {% call name(...) %}", call->position);
    return {std::move(call), parse_macro_body(template_.caller, std::move(signature), "endcall", open)};
  }

  FilterBlock parse_filter_block(uint32_t open) {
    const Surroundings outer(*this);
    FilterBlock out;
    out.filter = parse_filters(nullptr, true);
    lenient_ = false;
    parse_block({"endfilter"}, open, out.body);
    return out;
  }

  With parse_with(uint32_t open) {
    const Surroundings outer(*this);
    With out;
    while (current().type != TokenType::block_end) {
      if (!out.values.empty()) expect_symbol(",");
      Target target = parse_one_target(false);
      expect_symbol("=");
      out.values.emplace_back(std::move(target), parse_expression());
    }
    lenient_ = false;
    parse_block({"endwith"}, open, out.body);
    return out;
  }

  With parse_generation(uint32_t open) {
    const Surroundings outer(*this);
    lenient_ = in_loop_ = false;
    With out;
    parse_block({"endgeneration"}, open, out.body);
    return out;
  }

  void parse_print(uint32_t at, Body& body) {
    for (bool first = true; current().type != TokenType::block_end; first = false) {
      if (!first) expect_symbol(",");
      body.push_back({Print{parse_expression()}, at});
    }
  }

  bool in_loop_ = false;
};

}  // namespace

Template parse_template(std::string_view source) {
  Template out;
  out.source = normalize_source(source);
  Parser(tokenize(out.source), out).run();
  return out;
}

Place place_of(const std::string& source, uint32_t position) {
  const std::string_view before = std::string_view(source).substr(0, position);
  const size_t feed = before.rfind('\n');
  const std::string_view line = feed == std::string_view::npos ? before : before.substr(feed + 1);
  return {std::count(before.begin(), before.end(), '\n') + 1, count_characters(line) + 1};
}

}  // namespace bolide::jinja
