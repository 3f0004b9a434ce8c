// A parsed template. Names are numbers into Template::names; positions are bytes of Template::source.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja_value.h"

namespace bolide::jinja {

using NameId = int32_t;

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr more_positional, more_named;  // *args, **kwargs; may be null
};

struct Constant {
  Value value;
};
struct Name {
  NameId name;
};
struct ListDisplay {
  std::vector<ExpressionPtr> items;
  Form form;  // list or tuple
};
struct DictDisplay {
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> entries;
};
struct Attribute {
  ExpressionPtr object;
  std::string name;
};
struct Item {
  ExpressionPtr object, key;
};
struct Slice {
  ExpressionPtr object, start, stop, step;  // the last three may be null
};
struct Call {
  ExpressionPtr callee;
  CallArguments arguments;
};
struct FilterUse {
  ExpressionPtr input;  // null in filter blocks and set blocks: the block's text
  std::string name;
  CallArguments arguments;
};
struct TestUse {
  ExpressionPtr input;
  std::string name;
  CallArguments arguments;
};
enum class Unary : uint8_t { not_, minus, plus };
struct UnaryUse {
  Unary operation;
  ExpressionPtr operand;
};
enum class Binary : uint8_t { add, subtract, multiply, divide, floor_divide, modulo, power };
struct BinaryUse {
  Binary operation;
  ExpressionPtr left, right;
};
enum class Logic : uint8_t { and_, or_ };
struct LogicUse {
  Logic operation;
  ExpressionPtr left, right;
};
struct Concatenation {
  std::vector<ExpressionPtr> parts;
};
enum class Comparison : uint8_t { equal, unequal, less, less_equal, greater, greater_equal, in, not_in };
struct Compare {  // a < b < c
  ExpressionPtr first;
  std::vector<std::pair<Comparison, ExpressionPtr>> others;
};
struct Conditional {
  ExpressionPtr test, value, otherwise;  // the last may be null
};

struct Expression {
  using Node = std::variant<Constant, Name, ListDisplay, DictDisplay, Attribute, Item, Slice, Call, FilterUse, TestUse, UnaryUse, BinaryUse,
                            LogicUse, Concatenation, Compare, Conditional>;
  Node node;
  uint32_t position;
  int depth;  // of the tree below, to keep recursion bounded
};

// What `set` and `for` assign to: a name, an attribute of a namespace, or several of them.
struct Target {
  NameId name = -1;
  std::string attribute;  // of the namespace called `name`; empty: the name itself
  std::vector<Target> parts;
  uint32_t position = 0;
};

struct Statement;
using Body = std::vector<Statement>;

struct Data {
  Value text;
};
struct Print {
  ExpressionPtr value;
};
struct If {
  std::vector<std::pair<ExpressionPtr, Body>> branches;
  Body otherwise;
};
struct For {
  Target target;
  ExpressionPtr over, only_if;  // the second may be null
  bool recursive;
  Body body, otherwise;
};
struct Set {
  Target target;
  ExpressionPtr value;
};
struct SetBlock {
  Target target;
  ExpressionPtr filter;  // may be null
  Body body;
};
struct Signature {
  std::vector<NameId> names;
  std::vector<ExpressionPtr> defaults;  // of the last ones
};
struct Macro {
  NameId name;
  Signature signature;
  Body body;
  bool reads_caller = false, reads_varargs = false, reads_kwargs = false;
};
struct CallBlock {
  ExpressionPtr call;  // a Call
  std::shared_ptr<const Macro> caller;
};
struct FilterBlock {
  ExpressionPtr filter;
  Body body;
};
struct With {
  std::vector<std::pair<Target, ExpressionPtr>> values;
  Body body;  // also of {% generation %}, which marks what the assistant said
};
struct Break {};
struct Continue {};

struct Statement {
  using Node =
      std::variant<Data, Print, If, For, Set, SetBlock, std::shared_ptr<const Macro>, CallBlock, FilterBlock, With, Break, Continue>;
  Node node;
  uint32_t position;
};

struct Template {
  std::string source;  // normalised
  std::vector<std::string> names;
  std::set<NameId> read;              // names that some expression reads
  std::vector<std::string> literals;  // text outside of tags, and string constants
  NameId caller = -1, varargs = -1, kwargs = -1, loop = -1;
  Body body;
};

// Line and column of a byte of `source`, both from 1; columns count characters.
struct Place {
  int64_t line, column;
};
Place place_of(const std::string& source, uint32_t position);

}  // namespace bolide::jinja
