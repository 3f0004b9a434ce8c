#include "text/jinja_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "text/jinja_text.h"

namespace bolide::jinja {
namespace {

int deeper(int depth) {
  if (depth >= kMaxDataDepth) fail(fmt::format("data nests deeper than {} levels", kMaxDataDepth));
  return depth + 1;
}

std::string_view list_type_name(Form form) {
  switch (form) {
    case Form::tuple:
      return "tuple";
    case Form::range:
      return "range";
    case Form::keys:
      return "dict_keys";
    case Form::values:
      return "dict_values";
    case Form::items:
      return "dict_items";
    case Form::list:
      break;
  }
  return "list";
}

bool same_items(const std::vector<Value>& a, const std::vector<Value>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](const Value& x, const Value& y) { return equals(x, y); });
}

bool same_entries(const Dict& a, const Dict& b) {
  if (a.entries().size() != b.entries().size()) return false;
  return std::all_of(a.entries().begin(), a.entries().end(), [&](const Dict::Entry& entry) {
    const Value* other = b.find(entry.first);
    return other && equals(entry.second, *other);
  });
}

template <class T>
bool ordered(const T& a, Order order, const T& b) {
  switch (order) {
    case Order::less:
      return a < b;
    case Order::less_equal:
      return a <= b;
    case Order::greater:
      return a > b;
    case Order::greater_equal:
      break;
  }
  return a >= b;
}

// Whether a < b, exactly, where doubles do not hold every integer.
int compare_mixed(int64_t a, double b) {
  if (b >= 9223372036854775808.0) return -1;
  if (b < -9223372036854775808.0) return 1;
  const auto whole = static_cast<int64_t>(b);
  if (a != whole) return a < whole ? -1 : 1;
  const double rest = b - static_cast<double>(whole);
  return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

bool numbers_in_order(const Value& a, Order order, const Value& b) {
  const auto x = a.as_integer(), y = b.as_integer();
  if (x && y) return ordered(*x, order, *y);
  if (!x && !y) return ordered(*a.real(), order, *b.real());
  const double real = x ? *b.real() : *a.real();
  if (std::isnan(real)) return false;
  return x ? ordered(compare_mixed(*x, real), order, 0) : ordered(0, order, compare_mixed(*y, real));
}

bool numbers_equal(const Value& a, const Value& b) {
  const auto x = a.as_integer(), y = b.as_integer();
  if (x && y) return *x == *y;
  if (!x && !y) return *a.real() == *b.real();
  const double real = x ? *b.real() : *a.real();
  return !std::isnan(real) && compare_mixed(x ? *x : *y, real) == 0;
}

bool is_ascii(std::string_view bytes) {
  return std::none_of(bytes.begin(), bytes.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

}  // namespace

void fail(std::string text) { throw Failure{std::move(text)}; }

void fail_undefined(const Value& value) { fail(value.undefined_reason()); }

void require_size(size_t bytes) {
  if (bytes > kMaxTextBytes) fail(fmt::format("a text would be larger than {} MiB", kMaxTextBytes >> 20));
}

std::optional<Value> Object::attribute(Runtime&, const std::string&) { return std::nullopt; }
Value Object::call(Runtime&, Arguments&) { fail(fmt::format("'{}' object is not callable", type_name())); }
std::string Object::text() { fail(fmt::format("a {} has no text of its own", type_name())); }

Value::Value(std::string bytes, bool markup) {
  require_size(bytes.size());
  const bool ascii = is_ascii(bytes);
  data_ = std::make_shared<const Text>(Text{std::move(bytes), ascii, markup});
}

Value Value::undefined(std::string reason) {
  Value value;
  value.data_ = Undefined{std::make_shared<const std::string>(std::move(reason))};
  return value;
}

Value Value::list(std::vector<Value> items, Form form) {
  auto list = std::make_shared<List>();
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  list->depth = deeper(depth);
  list->items = std::move(items);
  list->form = form;
  return ListPtr(std::move(list));
}

Value Value::group(Value key, Value items) {
  const Value pair = tuple({std::move(key), std::move(items)});
  auto list = std::make_shared<List>(*pair.list());
  list->group = true;
  return ListPtr(std::move(list));
}

const std::string* Value::text() const {
  const TextPtr* text = text_pointer();
  return text ? &(*text)->bytes : nullptr;
}
const Text* Value::text_object() const {
  const TextPtr* text = text_pointer();
  return text ? text->get() : nullptr;
}
const List* Value::list() const {
  const ListPtr* list = list_pointer();
  return list ? list->get() : nullptr;
}
const Dict* Value::dict() const {
  const DictPtr* dict = dict_pointer();
  return dict ? dict->get() : nullptr;
}
Object* Value::object() const {
  const ObjectPtr* object = std::get_if<ObjectPtr>(&data_);
  return object ? object->get() : nullptr;
}
Generator* Value::generator() const {
  const GeneratorPtr* generator = generator_pointer();
  return generator ? generator->get() : nullptr;
}
bool Value::is_list_of(Form form) const { return list() && list()->form == form; }

std::optional<int64_t> Value::as_integer() const {
  if (const int64_t* value = integer()) return *value;
  if (const bool* value = boolean()) return *value ? 1 : 0;
  return std::nullopt;
}

std::optional<double> Value::as_number() const {
  if (const double* value = real()) return *value;
  if (const auto value = as_integer()) return static_cast<double>(*value);
  return std::nullopt;
}

bool Value::truth() const {
  if (is_undefined() || is_none()) return false;
  if (const auto number = as_number()) return *number != 0;
  const auto length = length_of(*this);
  return !length || *length != 0;
}

int Value::depth() const {
  if (const List* value = list()) return value->depth;
  if (const Dict* value = dict()) return value->depth();
  if (const Generator* value = generator()) return value->depth;
  if (const Object* value = object()) return value->depth();
  return 0;
}

std::string Value::type_name() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (boolean()) return "bool";
  if (integer()) return "int";
  if (real()) return "float";
  if (const Text* value = text_object()) return value->markup ? "Markup" : "str";
  if (const List* value = list()) return std::string(list_type_name(value->form));
  if (dict()) return "dict";
  if (generator()) return "generator";
  return object()->type_name();
}

const std::string& Value::undefined_reason() const {
  static const std::string none = "an undefined value is used";
  const Undefined* value = std::get_if<Undefined>(&data_);
  return value && value->reason ? *value->reason : none;
}

const Value* Dict::find(const Value& key) const {
  const size_t hash = hash_of(key);  // also of few entries, so that what cannot be a key is always refused
  if (entries_.size() <= kIndexed) {
    const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return equals(entry.first, key); });
    return found == entries_.end() ? nullptr : &found->second;
  }
  const auto [begin, end] = index_.equal_range(hash);
  const auto found = std::find_if(begin, end, [&](const auto& slot) { return equals(entries_[slot.second].first, key); });
  return found == end ? nullptr : &entries_[found->second].second;
}

const Value* Dict::find(std::string_view key) const {
  if (entries_.size() > kIndexed) return find(Value(key));
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    const std::string* text = entry.first.text();
    return text && *text == key;
  });
  return found == entries_.end() ? nullptr : &found->second;
}

void Dict::index(size_t entry) { index_.emplace(hash_of(entries_[entry].first), entry); }

void Dict::set(Value key, Value value) {
  depth_ = std::max({depth_, deeper(value.depth()), deeper(key.depth())});
  if (const Value* present = find(key)) {
    *const_cast<Value*>(present) = std::move(value);
    return;
  }
  entries_.emplace_back(std::move(key), std::move(value));
  if (entries_.size() == kIndexed + 1) {
    for (size_t i = 0; i < entries_.size(); ++i) index(i);
  } else if (entries_.size() > kIndexed) {
    index(entries_.size() - 1);
  }
}

Iterator::Iterator(Value over) : over_(std::move(over)) {
  const bool iterable = over_.is_undefined() || over_.is_text() || over_.list() || over_.dict() || over_.generator();
  if (!iterable) fail(fmt::format("'{}' object is not iterable", over_.type_name()));
}

bool Iterator::next(Value& value) {
  if (Generator* generator = over_.generator()) return generator->next(value);
  if (const List* list = over_.list()) {
    if (position_ == list->items.size()) return false;
    value = list->items[position_++];
    return true;
  }
  if (const Dict* dict = over_.dict()) {
    if (position_ == dict->entries().size()) return false;
    value = dict->entries()[position_++].first;
    return true;
  }
  const std::string* text = over_.text();
  if (!text || position_ == text->size()) return false;
  const size_t begin = position_;
  position_ = next_character(*text, begin);
  value = Value(std::string_view(*text).substr(begin, position_ - begin));
  return true;
}

std::vector<Value> all_items(const Value& value) {
  if (const List* list = value.list()) return list->items;
  std::vector<Value> items;
  Iterator iterator(value);
  for (Value item; iterator.next(item);) items.push_back(item);
  return items;
}

bool same_object(const Value& a, const Value& b) {
  if (a.boolean() && b.boolean()) return *a.boolean() == *b.boolean();
  if (a.is_none() || a.is_undefined()) return a.is_none() == b.is_none() && a.is_undefined() == b.is_undefined();
  if (a.integer() && b.integer()) return *a.integer() == *b.integer();
  if (a.text() && b.text()) return a.text_object() == b.text_object() || *a.text() == *b.text();
  if (a.list()) return a.list() == b.list();
  if (a.dict()) return a.dict() == b.dict();
  if (a.generator()) return a.generator() == b.generator();
  return a.object() && a.object() == b.object();
}

bool equals(const Value& a, const Value& b) {
  if (a.text() && b.text()) return *a.text() == *b.text();
  if (a.as_number() && b.as_number()) return numbers_equal(a, b);
  if (a.list() && b.list()) {
    if (a.list() == b.list()) return true;
    return a.list()->form == b.list()->form && a.list()->form != Form::values && same_items(a.list()->items, b.list()->items);
  }
  if (a.dict() && b.dict()) return a.dict() == b.dict() || same_entries(*a.dict(), *b.dict());
  return same_object(a, b);
}

bool in_order(const Value& a, Order order, const Value& b) {
  if (a.is_undefined()) fail_undefined(a);
  if (b.is_undefined()) fail_undefined(b);
  if (a.text() && b.text()) return ordered(*a.text(), order, *b.text());  // bytes of UTF-8 sort as code points do
  if (a.as_number() && b.as_number()) return numbers_in_order(a, order, b);
  const List *x = a.list(), *y = b.list();
  if (x && y && x->form == y->form && (x->form == Form::list || x->form == Form::tuple)) {
    const size_t shorter = std::min(x->items.size(), y->items.size());
    for (size_t i = 0; i < shorter; ++i) {
      if (!equals(x->items[i], y->items[i])) return in_order(x->items[i], order, y->items[i]);
    }
    return ordered(x->items.size(), order, y->items.size());
  }
  static constexpr const char* kSymbols[] = {"<", "<=", ">", ">="};
  fail(fmt::format("'{}' not supported between instances of '{}' and '{}'", kSymbols[static_cast<int>(order)], a.type_name(),
                   b.type_name()));
}

bool contains(const Value& container, const Value& item) {
  if (const std::string* text = container.text()) {
    if (!item.text()) fail(fmt::format("'in <string>' requires string as left operand, not {}", item.type_name()));
    return text->find(*item.text()) != std::string::npos;
  }
  if (const Dict* dict = container.dict()) return dict->find(item) != nullptr;
  if (const List* list = container.list())
    return std::any_of(list->items.begin(), list->items.end(), [&](const Value& each) { return equals(each, item); });
  if (!container.is_undefined() && !container.generator())
    fail(fmt::format("argument of type '{}' is not iterable", container.type_name()));
  Iterator iterator(container);
  for (Value each; iterator.next(each);) {
    if (equals(each, item)) return true;
  }
  return false;
}

std::optional<int64_t> length_of(const Value& value) {
  if (const Text* text = value.text_object()) return text->ascii ? static_cast<int64_t>(text->bytes.size()) : count_characters(text->bytes);
  if (const List* list = value.list()) return static_cast<int64_t>(list->items.size());
  if (const Dict* dict = value.dict()) return static_cast<int64_t>(dict->entries().size());
  if (value.is_undefined()) return 0;
  return std::nullopt;
}

size_t hash_of(const Value& value) {
  if (const std::string* text = value.text()) return std::hash<std::string>{}(*text);
  if (const auto number = value.as_integer()) return std::hash<int64_t>{}(*number);
  if (const double* number = value.real()) {
    const bool whole = std::abs(*number) < 9e18 && *number == std::floor(*number);
    return whole ? std::hash<int64_t>{}(static_cast<int64_t>(*number)) : std::hash<double>{}(*number);
  }
  if (value.is_none() || value.is_undefined()) return value.is_none() ? 1 : 2;
  if (const Object* object = value.object()) return std::hash<const Object*>{}(object);
  if (value.is_list_of(Form::tuple)) {
    size_t hash = 7;
    for (const Value& item : value.list()->items) hash = hash * 1000003 ^ hash_of(item);
    return hash;
  }
  fail(fmt::format("unhashable type: '{}'", value.type_name()));
}

}  // namespace bolide::jinja
