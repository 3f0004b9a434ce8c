#include "text/jinja_loop.h"

#include <fmt/format.h>

#include "text/jinja_repr.h"

namespace bolide::jinja {
namespace {

// loop.cycle or loop.changed, to be called.
class LoopMethod final : public Object {
 public:
  LoopMethod(ObjectPtr loop, bool cycles) : loop_(std::move(loop)), cycles_(cycles) {}
  std::string type_name() const override { return "method"; }
  bool callable() const override { return true; }
  int depth() const override { return loop_->depth(); }
  Value call(Runtime&, Arguments& arguments) override {
    auto& loop = static_cast<Loop&>(*loop_);
    if (!arguments.named.empty()) fail(fmt::format("loop.{} takes no named arguments", cycles_ ? "cycle" : "changed"));
    return cycles_ ? loop.cycle(arguments) : Value(loop.changed(arguments));
  }

 private:
  ObjectPtr loop_;
  bool cycles_;
};

}  // namespace

Loop::Loop(Runtime& runtime, const For& node, const Value& over, Scope* outer, int depth)
    : runtime_(runtime),
      node_(node),
      outer_(outer),
      level_(depth),
      data_depth_(over.depth() + 1),
      over_(over),
      source_(std::in_place, over) {
  if (data_depth_ > kMaxDataDepth) fail(fmt::format("data nests deeper than {} levels", kMaxDataDepth));
  if (node.recursive) Runtime::capture(outer);  // it can be called after its block has ended
}

bool Loop::passes(const Value& item) {
  Scope* scope = runtime_.new_scope(outer_);
  const bool passed = runtime_.in_scope(scope, [&] {
    runtime_.assign(node_.target, item);
    return runtime_.evaluate(*node_.only_if).truth();
  });
  runtime_.release(scope);
  return passed;
}

bool Loop::fetch(Value& item) {
  while (source_ && source_->next(item)) {
    runtime_.charge(1);
    if (!node_.only_if || passes(item)) return true;
  }
  return false;
}

bool Loop::peek() {
  if (!ahead_.empty()) return true;
  Value item;
  if (!fetch(item)) return false;
  ahead_.push_back(std::move(item));
  return true;
}

bool Loop::advance(Value& item) {
  if (!peek()) return false;
  item = std::move(ahead_.front());
  ahead_.pop_front();
  before_ = std::move(current_);
  current_ = item;
  ++index0_;
  return true;
}

int64_t Loop::length() {
  if (length_) return *length_;
  if (const auto known = length_of(over_); known && !node_.only_if) return *(length_ = known);
  for (Value item; fetch(item);) ahead_.push_back(item);
  return *(length_ = index0_ + 1 + static_cast<int64_t>(ahead_.size()));
}

void Loop::forget() {
  over_ = Value();
  source_.reset();
  ahead_.clear();
  before_.reset();
  current_.reset();
}

std::optional<Value> Loop::attribute(Runtime&, const std::string& name) {
  if (name == "index") return index0_ + 1;
  if (name == "index0") return index0_;
  if (name == "first") return index0_ == 0;
  if (name == "last") return !peek();
  if (name == "length") return length();
  if (name == "revindex") return length() - index0_;
  if (name == "revindex0") return length() - index0_ - 1;
  if (name == "depth") return level_ + 1;
  if (name == "depth0") return level_;
  if (name == "previtem") return before_ ? *before_ : Value::undefined("there is no previous item");
  if (name == "nextitem") return peek() ? ahead_.front() : Value::undefined("there is no next item");
  if (name != "cycle" && name != "changed") return std::nullopt;
  return Value(ObjectPtr(std::make_shared<LoopMethod>(shared_from_this(), name == "cycle")));
}

Value Loop::cycle(const Arguments& arguments) const {
  if (arguments.positional.empty()) fail("no items for cycling given");
  return arguments.positional[static_cast<size_t>(index0_) % arguments.positional.size()];
}

bool Loop::changed(const Arguments& arguments) {
  const Value now = Value::tuple(arguments.positional);
  if (last_changed_ && equals(*last_changed_, now)) return false;
  last_changed_ = runtime_.keep(now);
  return true;
}

Value Loop::call(Runtime& runtime, Arguments& arguments) {
  if (!node_.recursive) fail("the loop must have the 'recursive' marker to be called recursively");
  if (arguments.positional.size() != 1 || !arguments.named.empty()) fail("a recursive loop is called with one value to go through");
  return runtime.run_loop_again(node_, arguments.positional[0], outer_, level_ + 1);
}

std::string Loop::text() { return fmt::format("<LoopContext {}/{}>", index0_ + 1, length()); }

void Namespace::set(const std::string& name, Value value) {
  for (auto& [key, slot] : attributes_) {
    if (key == name) {
      slot = std::move(value);
      return;
    }
  }
  attributes_.emplace_back(name, std::move(value));
}

std::optional<Value> Namespace::attribute(Runtime&, const std::string& name) {
  for (const auto& [key, value] : attributes_) {
    if (key == name) return value;
  }
  return std::nullopt;
}

std::string Namespace::text() {
  std::string out = "<Namespace {";
  for (size_t i = 0; i < attributes_.size(); ++i) {
    if (i > 0) out += ", ";
    if (attributes_[i].second.object()) fail("a namespace that holds another object has no text of its own");
    out += quoted_text(attributes_[i].first) + ": " + repr_of(attributes_[i].second);
  }
  return out + "}>";
}

Value Runtime::make_namespace(std::vector<std::pair<std::string, Value>> attributes) {
  namespaces_.push_back(std::make_unique<Namespace>(std::move(attributes)));
  // Owned here, because namespaces are what can hold themselves.
  return Value(ObjectPtr(std::shared_ptr<void>(), namespaces_.back().get()));
}

}  // namespace bolide::jinja
