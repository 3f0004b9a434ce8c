// Attributes, items, calls and macros.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "text/jinja_loop.h"
#include "text/jinja_operators.h"
#include "text/jinja_repr.h"
#include "text/jinja_runtime.h"

namespace bolide::jinja {
namespace {

std::string kind_of(const Value& object) { return object.is_none() ? "None" : object.type_name() + " object"; }

Value missing(const Value& object, const Value& key) {
  if (key.text()) return Value::undefined(fmt::format("'{}' has no attribute {}", kind_of(object), quoted_text(*key.text())));
  return Value::undefined(fmt::format("{} has no element {}", kind_of(object), repr_of(key)));
}

// What changes a list or dict exists in Python, but the sandbox of chat templates hides it.
bool is_forbidden(const Value& object, std::string_view name) {
  static constexpr std::array<std::string_view, 8> kOfLists{"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};
  static constexpr std::array<std::string_view, 5> kOfDicts{"clear", "pop", "popitem", "setdefault", "update"};
  if (object.is_list_of(Form::list)) return std::find(kOfLists.begin(), kOfLists.end(), name) != kOfLists.end();
  return object.dict() && std::find(kOfDicts.begin(), kOfDicts.end(), name) != kOfDicts.end();
}

class BoundMethod final : public Object {
 public:
  BoundMethod(Value self, MethodFunction function) : self_(std::move(self)), function_(function) {}
  std::string type_name() const override { return "builtin_function_or_method"; }
  bool callable() const override { return true; }
  int depth() const override { return self_.depth() + 1; }
  Value call(Runtime& runtime, Arguments& arguments) override { return function_(runtime, self_, arguments); }

 private:
  Value self_;
  MethodFunction function_;
};

// A method as a value; nothing when there is none of that name.
std::optional<Value> bound_method(const Value& object, const std::string& name) {
  if (is_forbidden(object, name)) {
    return Value::undefined(fmt::format("access to attribute '{}' of '{}' object is unsafe: templates cannot change lists and dicts", name,
                                        object.type_name()));
  }
  const MethodFunction function = find_method(object, name);
  if (!function) return std::nullopt;
  if (object.depth() >= kMaxDataDepth) fail(fmt::format("data nests deeper than {} levels", kMaxDataDepth));
  return Value(ObjectPtr(std::make_shared<BoundMethod>(object, function)));
}

class MacroObject final : public Object {
 public:
  MacroObject(std::shared_ptr<const Macro> macro, Scope* scope, std::string name)
      : macro_(std::move(macro)), scope_(scope), name_(std::move(name)) {}
  std::string type_name() const override { return "Macro"; }
  bool callable() const override { return true; }
  std::string text() override { return fmt::format("<Macro {}>", quoted_text(name_)); }
  std::optional<Value> attribute(Runtime&, const std::string& name) override {
    return name == "name" ? std::optional(Value(name_)) : std::nullopt;
  }

  Value call(Runtime& runtime, Arguments& arguments) override {
    Scope* scope = runtime.new_scope(scope_);
    std::string text = runtime.capture_output(scope, [&] {
      bind(runtime, scope, arguments);
      runtime.run_body(macro_->body);
    });
    runtime.release(scope);
    return Value(std::move(text));
  }

 private:
  static std::optional<Value> take(Arguments& arguments, const std::string& name) {
    const auto found = std::find_if(arguments.named.begin(), arguments.named.end(), [&](const auto& each) { return each.first == name; });
    if (found == arguments.named.end()) return std::nullopt;
    std::optional<Value> value(std::move(found->second));
    arguments.named.erase(found);
    return value;
  }

  void bind(Runtime& runtime, Scope* scope, Arguments& arguments) const {
    const Signature& signature = macro_->signature;
    const size_t given = std::min(arguments.positional.size(), signature.names.size());
    std::vector<std::optional<Value>> values(signature.names.size());
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = i < given ? std::optional(arguments.positional[i]) : take(arguments, name_of(runtime, signature.names[i]));
    const size_t first_default = signature.names.size() - signature.defaults.size();
    if (macro_->reads_caller) {
      const auto caller = take(arguments, "caller");
      runtime.set(scope, runtime.parsed().caller, caller ? *caller : Value::undefined("No caller defined"));
    }
    bind_rest(runtime, scope, arguments);
    for (size_t i = 0; i < values.size(); ++i) {
      if (!values[i]) {
        values[i] = i >= first_default
                        ? runtime.evaluate(*signature.defaults[i - first_default])
                        : Value::undefined(fmt::format("parameter '{}' was not provided", name_of(runtime, signature.names[i])));
      }
      runtime.set(scope, signature.names[i], std::move(*values[i]));
    }
  }

  void bind_rest(Runtime& runtime, Scope* scope, Arguments& arguments) const {
    const size_t parameters = macro_->signature.names.size();
    if (macro_->reads_kwargs) {
      auto dict = std::make_shared<Dict>();
      for (auto& [name, value] : arguments.named) dict->set(Value(name), std::move(value));
      runtime.set(scope, runtime.parsed().kwargs, DictPtr(std::move(dict)));
    } else if (!arguments.named.empty()) {
      fail(fmt::format("macro '{}' takes no keyword argument '{}'", name_, arguments.named.front().first));
    }
    if (macro_->reads_varargs) {
      const auto begin = arguments.positional.begin() + static_cast<std::ptrdiff_t>(std::min(parameters, arguments.positional.size()));
      runtime.set(scope, runtime.parsed().varargs, Value::tuple({begin, arguments.positional.end()}));
    } else if (arguments.positional.size() > parameters) {
      fail(fmt::format("macro '{}' takes not more than {} argument(s)", name_, parameters));
    }
  }

  static const std::string& name_of(const Runtime& runtime, NameId id) { return runtime.parsed().names[static_cast<size_t>(id)]; }

  std::shared_ptr<const Macro> macro_;
  Scope* scope_;
  std::string name_;
};

}  // namespace

Value make_macro(Runtime& runtime, std::shared_ptr<const Macro> macro) {
  Runtime::capture(runtime.scope());
  const std::string& name = runtime.parsed().names[static_cast<size_t>(macro->name)];
  return Value(ObjectPtr(std::make_shared<MacroObject>(std::move(macro), runtime.scope(), name)));
}

Value Runtime::attribute(const Value& object, const std::string& name) {
  if (object.is_undefined()) fail_undefined(object);
  if (Object* other = object.object()) {
    const auto value = other->attribute(*this, name);
    return value ? *value : missing(object, name);
  }
  if (const List* list = object.list(); list && list->group && (name == "grouper" || name == "list"))
    return list->items[name == "list" ? 1 : 0];
  if (const auto method = bound_method(object, name)) return *method;
  if (const Dict* dict = object.dict()) {
    if (const Value* value = dict->find(std::string_view(name))) return *value;
  }
  return missing(object, name);
}

Value Runtime::item(const Value& object, const Value& key) {
  if (object.is_undefined()) fail_undefined(object);
  if (const Dict* dict = object.dict()) {
    const bool hashable = !key.list() || key.is_list_of(Form::tuple);
    if (const Value* value = hashable && !key.dict() ? dict->find(key) : nullptr) return *value;
  } else if (const auto index = key.as_integer()) {
    const bool indexed =
        object.is_text() || object.is_list_of(Form::list) || object.is_list_of(Form::tuple) || object.is_list_of(Form::range);
    if (const auto value = indexed ? item_at(object, *index) : std::nullopt) return *value;
  }
  if (!key.text()) return missing(object, key);
  if (const List* list = object.list(); list && list->group) return attribute(object, *key.text());
  if (Object* other = object.object()) {
    const auto value = other->attribute(*this, *key.text());
    return value ? *value : missing(object, key);
  }
  const auto method = bound_method(object, *key.text());
  return method ? *method : missing(object, key);
}

Value Runtime::call(const Value& callee, Arguments& arguments) {
  if (callee.is_undefined()) fail_undefined(callee);
  Object* object = callee.object();
  if (!object || !object->callable()) fail(fmt::format("'{}' object is not callable", callee.type_name()));
  const Deeper level(*this);
  return object->call(*this, arguments);
}

}  // namespace bolide::jinja
