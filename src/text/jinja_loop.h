// The objects that change while a template is rendered: loops, namespaces, cyclers, joiners; and macros.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja_runtime.h"

namespace bolide::jinja {

// A for loop under way, which its body sees as `loop`. Items are fetched one by one, and filtered when they are fetched.
class Loop final : public Object, public std::enable_shared_from_this<Loop> {
 public:
  Loop(Runtime& runtime, const For& node, const Value& over, Scope* outer, int depth);

  // Forgets the items when the loop ends, so that nothing keeps itself alive.
  struct Finish {
    Loop& loop;
    ~Finish() { loop.forget(); }
  };
  // The next round; false at the end.
  bool advance(Value& item);

  std::string type_name() const override { return "LoopContext"; }
  std::optional<Value> attribute(Runtime& runtime, const std::string& name) override;
  bool callable() const override { return true; }
  Value call(Runtime& runtime, Arguments& arguments) override;  // a recursive loop, one level deeper
  std::string text() override;
  int depth() const override { return data_depth_; }

  Value cycle(const Arguments& arguments) const;
  bool changed(const Arguments& arguments);

 private:
  bool fetch(Value& item);
  bool passes(const Value& item);
  bool peek();  // whether there is a next item
  int64_t length();
  void forget();

  Runtime& runtime_;
  const For& node_;
  Scope* outer_;
  int level_, data_depth_;
  Value over_;
  std::optional<Iterator> source_;
  std::deque<Value> ahead_;
  std::optional<Value> before_, current_;
  int64_t index0_ = -1;
  std::optional<int64_t> length_;
  Value* last_changed_ = nullptr;
};

class Namespace final : public Object {
 public:
  explicit Namespace(std::vector<std::pair<std::string, Value>> attributes) : attributes_(std::move(attributes)) {}
  void set(const std::string& name, Value value);
  std::string type_name() const override { return "Namespace"; }
  std::optional<Value> attribute(Runtime& runtime, const std::string& name) override;
  std::string text() override;

 private:
  std::vector<std::pair<std::string, Value>> attributes_;
};

}  // namespace bolide::jinja
