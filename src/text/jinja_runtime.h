// Renders a parsed template. One runtime is one rendering: it owns the scopes and namespaces that come to be, and bounds the work.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_syntax.h"

namespace bolide::jinja {

// A template that went wrong while it was rendered.
struct RenderFailure {
  std::string text;
  uint32_t position;
};

struct Limits {
  int64_t work = 100'000'000;  // operations, and 64 bytes of text each
  int depth = 1000;            // operations within operations, through macros
};

// Variables of a loop, a macro call or a block. Those of the template itself are in Runtime::root_.
struct Scope {
  Scope* parent;
  std::vector<std::pair<NameId, Value>> variables;
  bool captured = false;  // a macro or loop that may outlive the block sees it
};

class Namespace;

class Runtime {
 public:
  explicit Runtime(const Template& parsed, const Limits& limits = {});

  // A variable that the template can read.
  void define(std::string_view name, Value value);
  // Throws RenderFailure.
  std::string render();

  // --- What filters, tests, methods, macros and loops use. All throw Failure.
  void charge(size_t work);
  void charge_text(const Value& value);
  Value attribute(const Value& object, const std::string& name);  // object.name
  Value item(const Value& object, const Value& key);              // object[key]
  Value call(const Value& callee, Arguments& arguments);
  Value apply_filter(const std::string& name, const Value& input, Arguments& arguments);
  bool apply_test(const std::string& name, const Value& input, Arguments& arguments);
  Value make_namespace(std::vector<std::pair<std::string, Value>> attributes);
  Value* keep(Value value);  // lives as long as the rendering

  Scope* scope() const { return scope_; }
  Scope* new_scope(Scope* parent);
  void release(Scope* scope);  // unless captured, it is used again
  static void capture(Scope* scope);
  void set(Scope* scope, NameId name, Value value);
  void assign(const Target& target, const Value& value);
  Value evaluate(const Expression& expression);
  const Template& parsed() const { return parsed_; }

  // Runs `work` with the scope, and gives what it writes.
  template <class Work>
  std::string capture_output(Scope* scope, Work&& work);
  template <class Work>
  auto in_scope(Scope* scope, Work&& work);
  void run_body(const Body& body) { execute(body); }
  // A recursive loop over `over`; the text it writes.
  Value run_loop_again(const For& node, const Value& over, Scope* outer, int depth);

 private:
  enum class Flow : uint8_t { on, leave, next };  // leave and next: break and continue on their way to the loop

  class Deeper {
   public:
    explicit Deeper(Runtime& runtime);
    ~Deeper() { --runtime_.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;

   private:
    Runtime& runtime_;
  };

  Value lookup(NameId name) const;
  void write(std::string_view text);
  Value unpack_error(const Target& target, size_t count);

  Flow execute(const Body& body);
  Flow run(const Data& node, uint32_t at);
  Flow run(const Print& node, uint32_t at);
  Flow run(const If& node, uint32_t at);
  Flow run(const For& node, uint32_t at);
  Flow run(const Set& node, uint32_t at);
  Flow run(const SetBlock& node, uint32_t at);
  Flow run(const std::shared_ptr<const Macro>& node, uint32_t at);
  Flow run(const CallBlock& node, uint32_t at);
  Flow run(const FilterBlock& node, uint32_t at);
  Flow run(const With& node, uint32_t at);
  Flow run(const Break&, uint32_t) { return Flow::leave; }
  Flow run(const Continue&, uint32_t) { return Flow::next; }
  Flow run_loop(const For& node, const Value& over, Scope* outer, int depth);

  Value value(const Constant& node, uint32_t at);
  Value value(const Name& node, uint32_t at);
  Value value(const ListDisplay& node, uint32_t at);
  Value value(const DictDisplay& node, uint32_t at);
  Value value(const Attribute& node, uint32_t at);
  Value value(const Item& node, uint32_t at);
  Value value(const Slice& node, uint32_t at);
  Value value(const Call& node, uint32_t at);
  Value value(const FilterUse& node, uint32_t at);
  Value value(const TestUse& node, uint32_t at);
  Value value(const UnaryUse& node, uint32_t at);
  Value value(const BinaryUse& node, uint32_t at);
  Value value(const LogicUse& node, uint32_t at);
  Value value(const Concatenation& node, uint32_t at);
  Value value(const Compare& node, uint32_t at);
  Value value(const Conditional& node, uint32_t at);
  Value call_node(const Call& node, uint32_t at, const Value* caller);
  Arguments evaluate_arguments(const CallArguments& arguments);

  const Template& parsed_;
  Limits limits_;
  int64_t work_ = 0;
  int depth_ = 0;
  uint32_t at_ = 0;  // where the operation under way stands
  std::string out_;
  Value block_text_;  // input of a filter block's first filter

  std::vector<std::optional<Value>> root_;  // by name
  Scope* scope_ = nullptr;
  std::deque<Scope> scopes_;
  std::vector<Scope*> free_scopes_;
  std::deque<Value> kept_;
  std::vector<std::unique_ptr<Object>> namespaces_;
};

template <class Work>
auto Runtime::in_scope(Scope* scope, Work&& work) {
  struct Back {
    Scope*& slot;
    Scope* old;
    ~Back() { slot = old; }
  } back{scope_, scope_};
  scope_ = scope;
  return work();
}

template <class Work>
std::string Runtime::capture_output(Scope* scope, Work&& work) {
  std::string outer;
  outer.swap(out_);
  in_scope(scope, work);
  outer.swap(out_);
  return outer;
}

// A macro, or the caller of a call block, together with the scope that it was written in.
Value make_macro(Runtime& runtime, std::shared_ptr<const Macro> macro);

// The functions that every template can call, by name: range, namespace, raise_exception, ...; nothing for other names.
std::optional<Value> global_function(std::string_view name);

// A method of str, list, tuple or dict as a plain function; null when the type has none of that name. Throws Failure for methods that
// Python has and this does not.
using MethodFunction = Value (*)(Runtime& runtime, const Value& self, Arguments& arguments);
MethodFunction find_method(const Value& self, std::string_view name);

}  // namespace bolide::jinja
