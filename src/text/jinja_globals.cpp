// The functions that every template can call.
#include <fmt/format.h>

#include <array>
#include <ctime>

#include "text/jinja_arguments.h"
#include "text/jinja_operators.h"
#include "text/jinja_repr.h"
#include "text/jinja_runtime.h"

namespace bolide::jinja {
namespace {

using GlobalFunction = Value (*)(Runtime& runtime, Arguments& arguments);

class Function final : public Object {
 public:
  explicit Function(GlobalFunction function) : function_(function) {}
  std::string type_name() const override { return "function"; }
  bool callable() const override { return true; }
  Value call(Runtime& runtime, Arguments& arguments) override { return function_(runtime, arguments); }

 private:
  GlobalFunction function_;
};

Value range_function(Runtime& runtime, Arguments& arguments) {
  const Parameters parameters("range", arguments, {"start", "stop", "step"}, 1);
  for (size_t i = 0; i < 3; ++i) {
    if (parameters[i] && !parameters[i]->as_integer()) {
      if (parameters[i]->is_undefined()) fail_undefined(*parameters[i]);
      fail(fmt::format("'{}' object cannot be interpreted as an integer", parameters[i]->type_name()));
    }
  }
  const bool alone = !parameters[1];
  Value out = make_range(alone ? 0 : parameters.integer(0, 0), parameters.integer(alone ? 0 : 1, 0), parameters.integer(2, 1));
  runtime.charge_text(out);
  return out;
}

// dict(mapping or pairs, name=value, ...)
std::shared_ptr<Dict> dict_of(const Arguments& arguments, std::string_view function) {
  auto dict = std::make_shared<Dict>();
  if (arguments.positional.size() > 1) fail(fmt::format("{}() takes at most one plain argument", function));
  if (!arguments.positional.empty()) {
    const Value& from = arguments.positional[0];
    if (from.dict()) {
      *dict = *from.dict();
    } else {
      for (const Value& pair : all_items(from)) {
        const std::vector<Value> parts = all_items(pair);
        if (parts.size() != 2) fail(fmt::format("{}() wants pairs, and one has {} elements", function, parts.size()));
        dict->set(parts[0], parts[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) dict->set(Value(name), value);
  return dict;
}

Value dict_function(Runtime&, Arguments& arguments) { return DictPtr(dict_of(arguments, "dict")); }

Value namespace_function(Runtime& runtime, Arguments& arguments) {
  const auto dict = dict_of(arguments, "namespace");
  std::vector<std::pair<std::string, Value>> attributes;
  for (const auto& [key, value] : dict->entries()) {
    if (!key.text()) fail("the names of a namespace are strings");
    attributes.emplace_back(*key.text(), value);
  }
  return runtime.make_namespace(std::move(attributes));
}

Value raise_function(Runtime&, Arguments& arguments) {
  const Parameters parameters("raise_exception", arguments, {"message"}, 1);
  fail(text_of(*parameters[0]));
}

Value strftime_function(Runtime&, Arguments& arguments) {
  const Parameters parameters("strftime_now", arguments, {"format"}, 1);
  const std::string& format = parameters.text(0);
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  if (format.empty()) return "";
  std::array<char, 4096> buffer;
  const size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
  if (size == 0) fail(fmt::format("strftime_now({}) gives nothing, or more than {} bytes", quoted_text(format), buffer.size()));
  return Value(std::string(buffer.data(), size));
}

// The separator, but not the first time.
class Joiner final : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  std::string type_name() const override { return "Joiner"; }
  bool callable() const override { return true; }
  int depth() const override { return separator_.depth() + 1; }
  Value call(Runtime&, Arguments&) override { return std::exchange(used_, true) ? separator_ : Value(""); }

 private:
  Value separator_;
  bool used_ = false;
};

Value joiner_function(Runtime&, Arguments& arguments) {
  const Parameters parameters("joiner", arguments, {"sep"});
  return Value(ObjectPtr(std::make_shared<Joiner>(parameters.value(0, ", "))));
}

class Cycler final : public Object, public std::enable_shared_from_this<Cycler> {
 public:
  explicit Cycler(Value items) : items_(std::move(items)) {}
  std::string type_name() const override { return "Cycler"; }
  int depth() const override { return items_.depth() + 1; }
  std::optional<Value> attribute(Runtime&, const std::string& name) override {
    if (name == "current") return items_.list()->items[position_];
    if (name == "next") return Value(ObjectPtr(std::make_shared<Step>(shared_from_this(), true)));
    if (name == "reset") return Value(ObjectPtr(std::make_shared<Step>(shared_from_this(), false)));
    return std::nullopt;
  }

 private:
  class Step final : public Object {
   public:
    Step(std::shared_ptr<Cycler> cycler, bool forward) : cycler_(std::move(cycler)), forward_(forward) {}
    std::string type_name() const override { return "method"; }
    bool callable() const override { return true; }
    int depth() const override { return cycler_->depth(); }
    Value call(Runtime&, Arguments&) override {
      const std::vector<Value>& items = cycler_->items_.list()->items;
      const size_t now = forward_ ? cycler_->position_ : 0;
      cycler_->position_ = forward_ ? (now + 1) % items.size() : 0;
      return forward_ ? items[now] : Value(None{});
    }

   private:
    std::shared_ptr<Cycler> cycler_;
    bool forward_;
  };
  Value items_;
  size_t position_ = 0;
};

Value cycler_function(Runtime&, Arguments& arguments) {
  if (arguments.positional.empty() || !arguments.named.empty()) fail("cycler() wants at least one item");
  return Value(ObjectPtr(std::make_shared<Cycler>(Value::list(arguments.positional))));
}

}  // namespace

std::optional<Value> global_function(std::string_view name) {
  static constexpr std::pair<std::string_view, GlobalFunction> kFunctions[] = {
      {"range", range_function},           {"dict", dict_function},
      {"namespace", namespace_function},   {"raise_exception", raise_function},
      {"strftime_now", strftime_function}, {"joiner", joiner_function},
      {"cycler", cycler_function}};
  for (const auto& [known, function] : kFunctions) {
    if (known == name) return Value(ObjectPtr(std::make_shared<Function>(function)));
  }
  return std::nullopt;
}

}  // namespace bolide::jinja
