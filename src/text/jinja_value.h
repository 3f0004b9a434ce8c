// Values of a template: what None, bool, int, float, str, list, tuple, dict, range and generators of Python are to Jinja. They are
// immutable and shared (the sandbox that chat templates run in forbids changing lists and dicts); only objects, such as namespaces and
// loops, change.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace bolide::jinja {

// What a template does wrong while it is rendered. The runtime adds the place and turns it into an Error.
struct Failure {
  std::string text;
};

constexpr int kMaxDataDepth = 200;                  // lists within lists, generators over generators
constexpr size_t kMaxTextBytes = size_t{64} << 20;  // of any string, the rendered text included

// Throws Failure when a string would be larger than kMaxTextBytes.
void require_size(size_t bytes);

class Value;
class Runtime;
struct Arguments;

struct None {};
struct Undefined {
  std::shared_ptr<const std::string> reason;  // "'x' is undefined"
};

// Valid UTF-8.
struct Text {
  std::string bytes;
  bool ascii;
  bool markup;  // marked safe: + escapes what is joined to it
};
using TextPtr = std::shared_ptr<const Text>;

enum class Form : uint8_t { list, tuple, range, keys, values, items };
struct List;
using ListPtr = std::shared_ptr<const List>;
class Dict;
using DictPtr = std::shared_ptr<const Dict>;

// Yields its values once, when they are asked for.
struct Generator {
  std::function<bool(Value&)> next;  // false at the end
  int depth = 0;
};
using GeneratorPtr = std::shared_ptr<Generator>;

// What has attributes or can be called: namespaces, macros, loops, functions, methods.
class Object {
 public:
  virtual ~Object() = default;
  virtual std::string type_name() const = 0;
  // Nothing when it has no attribute of that name.
  virtual std::optional<Value> attribute(Runtime& runtime, const std::string& name);
  virtual bool callable() const { return false; }
  virtual Value call(Runtime& runtime, Arguments& arguments);
  // As str() gives it. Throws Failure for what Python shows as an address.
  virtual std::string text();
  virtual int depth() const { return 0; }
};
using ObjectPtr = std::shared_ptr<Object>;

class Value {
 public:
  Value() = default;  // undefined, without a reason
  Value(None) : data_(None{}) {}
  Value(bool value) : data_(value) {}
  Value(int value) : data_(int64_t{value}) {}
  Value(int64_t value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(std::string bytes, bool markup = false);
  Value(std::string_view bytes) : Value(std::string(bytes)) {}
  Value(const char* bytes) : Value(std::string(bytes)) {}
  Value(TextPtr text) : data_(std::move(text)) {}
  Value(ListPtr list) : data_(std::move(list)) {}
  Value(DictPtr dict) : data_(std::move(dict)) {}
  Value(GeneratorPtr generator) : data_(std::move(generator)) {}
  Value(ObjectPtr object) : data_(std::move(object)) {}
  static Value undefined(std::string reason);
  static Value list(std::vector<Value> items, Form form = Form::list);  // throws Failure when it nests too deep
  static Value group(Value key, Value items);                           // a pair of groupby, whose parts are also called grouper and list
  static Value tuple(std::vector<Value> items) { return list(std::move(items), Form::tuple); }

  bool is_undefined() const { return holds<Undefined>(); }
  bool is_none() const { return holds<None>(); }
  bool is_text() const { return holds<TextPtr>(); }

  // Null when the value is of another kind.
  const std::string* text() const;
  const Text* text_object() const;
  const List* list() const;  // lists, tuples, ranges and dict views
  const Dict* dict() const;
  Object* object() const;
  const bool* boolean() const { return std::get_if<bool>(&data_); }
  const int64_t* integer() const { return std::get_if<int64_t>(&data_); }  // not bool
  const double* real() const { return std::get_if<double>(&data_); }
  Generator* generator() const;
  const ListPtr* list_pointer() const { return std::get_if<ListPtr>(&data_); }
  const DictPtr* dict_pointer() const { return std::get_if<DictPtr>(&data_); }
  const TextPtr* text_pointer() const { return std::get_if<TextPtr>(&data_); }
  const GeneratorPtr* generator_pointer() const { return std::get_if<GeneratorPtr>(&data_); }
  bool is_list_of(Form form) const;

  // bool and int, as Python's int protocol sees them.
  std::optional<int64_t> as_integer() const;
  // bool, int and float.
  std::optional<double> as_number() const;

  bool truth() const;
  int depth() const;
  // As Python names the type: "str", "NoneType", "dict_items".
  std::string type_name() const;
  const std::string& undefined_reason() const;

 private:
  template <class T>
  bool holds() const {
    return std::holds_alternative<T>(data_);
  }
  std::variant<Undefined, None, bool, int64_t, double, TextPtr, ListPtr, DictPtr, GeneratorPtr, ObjectPtr> data_;
};

struct List {
  std::vector<Value> items;
  Form form = Form::list;
  int depth = 0;
  int64_t start = 0, stop = 0, step = 1;  // of a range
  bool group = false;                     // a pair of groupby
};

// Keeps the order of insertion; a key that comes again keeps its place and takes the new value.
class Dict {
 public:
  using Entry = std::pair<Value, Value>;
  const std::vector<Entry>& entries() const { return entries_; }
  // Null when absent. Throws Failure for keys that cannot be hashed.
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  void set(Value key, Value value);
  int depth() const { return depth_; }

 private:
  static constexpr size_t kIndexed = 16;  // up to here a search is as fast as a hash
  void index(size_t entry);
  std::vector<Entry> entries_;
  std::unordered_multimap<size_t, size_t> index_;  // hash -> entry
  int depth_ = 1;
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// Goes through a value as a for loop does. Throws Failure for what cannot be iterated.
class Iterator {
 public:
  explicit Iterator(Value over);
  bool next(Value& value);

 private:
  Value over_;
  size_t position_ = 0;
};
// All that is left of it.
std::vector<Value> all_items(const Value& value);

// Python's ==; numbers of different types compare by value, lists never equal tuples.
bool equals(const Value& a, const Value& b);
enum class Order : uint8_t { less, less_equal, greater, greater_equal };
// Throws Failure for types that have no order between them.
bool in_order(const Value& a, Order order, const Value& b);
bool same_object(const Value& a, const Value& b);  // Python's `is`
// Python's `in`. Throws Failure for containers that are none.
bool contains(const Value& container, const Value& item);
// Python's len(); nothing for what has none.
std::optional<int64_t> length_of(const Value& value);
size_t hash_of(const Value& value);  // throws Failure for lists and dicts

// 'x' "has no order", for messages.
[[noreturn]] void fail(std::string text);
// Fails with the reason of an undefined value.
[[noreturn]] void fail_undefined(const Value& value);

}  // namespace bolide::jinja
