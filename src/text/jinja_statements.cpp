// The statements of a template, and what a rendering owns.
#include <fmt/format.h>

#include "text/jinja_loop.h"
#include "text/jinja_repr.h"
#include "text/jinja_runtime.h"

namespace bolide::jinja {

Runtime::Deeper::Deeper(Runtime& runtime) : runtime_(runtime) {
  if (++runtime.depth_ <= runtime.limits_.depth) return;
  --runtime.depth_;
  fail(fmt::format("macros call each other more than {} operations deep", runtime.limits_.depth));
}

Runtime::Runtime(const Template& parsed, const Limits& limits) : parsed_(parsed), limits_(limits), root_(parsed.names.size()) {
  for (size_t i = 0; i < parsed.names.size(); ++i) root_[i] = global_function(parsed.names[i]);
}

void Runtime::define(std::string_view name, Value value) {
  for (size_t i = 0; i < parsed_.names.size(); ++i) {
    if (parsed_.names[i] == name) root_[i] = std::move(value);
  }
}

std::string Runtime::render() {
  try {
    execute(parsed_.body);
  } catch (Failure& failure) {
    throw RenderFailure{std::move(failure.text), at_};
  }
  return std::move(out_);
}

void Runtime::charge(size_t work) {
  work_ += static_cast<int64_t>(work);
  if (work_ > limits_.work) fail(fmt::format("the template takes more than {} operations; it may never end", limits_.work));
}

void Runtime::charge_text(const Value& value) {
  if (const std::string* text = value.text()) charge(text->size() / 64);
  if (const List* list = value.list()) charge(list->items.size() / 4);
}

Value* Runtime::keep(Value value) { return &kept_.emplace_back(std::move(value)); }

Scope* Runtime::new_scope(Scope* parent) {
  if (free_scopes_.empty()) return &scopes_.emplace_back(Scope{parent, {}, false});
  Scope* scope = free_scopes_.back();
  free_scopes_.pop_back();
  scope->parent = parent;
  return scope;
}

void Runtime::release(Scope* scope) {
  if (scope->captured) return;
  scope->variables.clear();
  free_scopes_.push_back(scope);
}

void Runtime::capture(Scope* scope) {
  for (; scope && !scope->captured; scope = scope->parent) scope->captured = true;
}

void Runtime::set(Scope* scope, NameId name, Value value) {
  if (!scope) {
    root_[static_cast<size_t>(name)] = std::move(value);
    return;
  }
  for (auto& [id, slot] : scope->variables) {
    if (id == name) {
      slot = std::move(value);
      return;
    }
  }
  scope->variables.emplace_back(name, std::move(value));
}

Value Runtime::lookup(NameId name) const {
  for (const Scope* scope = scope_; scope; scope = scope->parent) {
    for (const auto& [id, value] : scope->variables) {
      if (id == name) return value;
    }
  }
  const std::optional<Value>& value = root_[static_cast<size_t>(name)];
  return value ? *value : Value::undefined(fmt::format("'{}' is undefined", parsed_.names[static_cast<size_t>(name)]));
}

void Runtime::assign(const Target& target, const Value& value) {
  if (!target.parts.empty()) {
    const std::vector<Value> items = all_items(value);
    if (items.size() != target.parts.size()) {
      fail(fmt::format("{} values to unpack, expected {}", items.size(), target.parts.size()));
    }
    for (size_t i = 0; i < items.size(); ++i) assign(target.parts[i], items[i]);
  } else if (target.attribute.empty()) {
    set(scope_, target.name, value);
  } else {
    auto* space = dynamic_cast<Namespace*>(lookup(target.name).object());
    if (!space) fail("cannot assign attribute on non-namespace object");
    space->set(target.attribute, value);
  }
}

void Runtime::write(std::string_view text) {
  require_size(out_.size() + text.size());
  charge(text.size() / 64);
  out_ += text;
}

Runtime::Flow Runtime::execute(const Body& body) {
  const Deeper level(*this);
  for (const Statement& statement : body) {
    charge(1);
    const Flow flow = std::visit([&](const auto& node) { return run(node, statement.position); }, statement.node);
    if (flow != Flow::on) return flow;
  }
  return Flow::on;
}

Runtime::Flow Runtime::run(const Data& node, uint32_t at) {
  at_ = at;
  write(*node.text.text());
  return Flow::on;
}

Runtime::Flow Runtime::run(const Print& node, uint32_t at) {
  const Value value = evaluate(*node.value);
  at_ = at;
  if (const std::string* text = value.text())
    write(*text);
  else
    write(text_of(value));
  return Flow::on;
}

Runtime::Flow Runtime::run(const If& node, uint32_t) {
  for (const auto& [test, body] : node.branches) {
    if (evaluate(*test).truth()) return execute(body);
  }
  return execute(node.otherwise);
}

Runtime::Flow Runtime::run(const For& node, uint32_t at) {
  const Value over = evaluate(*node.over);
  at_ = at;
  return run_loop(node, over, scope_, 0);
}

Runtime::Flow Runtime::run_loop(const For& node, const Value& over, Scope* outer, int depth) {
  const auto loop = std::make_shared<Loop>(*this, node, over, outer, depth);
  const Loop::Finish finish{*loop};
  bool any = false;
  for (Value item; loop->advance(item);) {
    any = true;
    Scope* scope = new_scope(outer);
    const Flow flow = in_scope(scope, [&] {
      set(scope, parsed_.loop, Value(ObjectPtr(loop)));
      assign(node.target, item);
      return execute(node.body);
    });
    release(scope);
    if (flow == Flow::leave) return Flow::on;
  }
  if (any || node.otherwise.empty()) return Flow::on;
  Scope* scope = new_scope(outer);
  const Flow flow = in_scope(scope, [&] { return execute(node.otherwise); });
  release(scope);
  return flow;
}

Value Runtime::run_loop_again(const For& node, const Value& over, Scope* outer, int depth) {
  const Deeper level(*this);
  return Value(capture_output(outer, [&] { run_loop(node, over, outer, depth); }));
}

Runtime::Flow Runtime::run(const Set& node, uint32_t at) {
  const Value value = evaluate(*node.value);
  at_ = at;
  assign(node.target, value);
  return Flow::on;
}

Runtime::Flow Runtime::run(const SetBlock& node, uint32_t at) {
  Scope* scope = new_scope(scope_);
  Value text(capture_output(scope, [&] { execute(node.body); }));
  release(scope);
  charge_text(text);
  if (node.filter) {
    block_text_ = std::move(text);
    text = evaluate(*node.filter);
  }
  at_ = at;
  assign(node.target, text);
  return Flow::on;
}

Runtime::Flow Runtime::run(const std::shared_ptr<const Macro>& node, uint32_t at) {
  at_ = at;
  set(scope_, node->name, make_macro(*this, node));
  return Flow::on;
}

Runtime::Flow Runtime::run(const CallBlock& node, uint32_t at) {
  const Value caller = make_macro(*this, node.caller);
  const Value value = call_node(std::get<Call>(node.call->node), at, &caller);
  write(text_of(value));
  return Flow::on;
}

Runtime::Flow Runtime::run(const FilterBlock& node, uint32_t at) {
  Scope* scope = new_scope(scope_);
  Value text(capture_output(scope, [&] { execute(node.body); }));
  release(scope);
  block_text_ = std::move(text);
  const Value value = evaluate(*node.filter);
  at_ = at;
  write(text_of(value));
  return Flow::on;
}

Runtime::Flow Runtime::run(const With& node, uint32_t at) {
  std::vector<Value> values;
  for (const auto& [target, expression] : node.values) values.push_back(evaluate(*expression));
  at_ = at;
  Scope* scope = new_scope(scope_);
  const Flow flow = in_scope(scope, [&] {
    for (size_t i = 0; i < values.size(); ++i) assign(node.values[i].first, values[i]);
    return execute(node.body);
  });
  release(scope);
  return flow;
}

}  // namespace bolide::jinja
