// JSON in and out, out as Python's json.dumps writes it.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "text/jinja_repr.h"
#include "text/unicode.h"

namespace bolide::jinja {
namespace {

using Json = nlohmann::ordered_json;

class Writer {
 public:
  explicit Writer(const JsonOptions& options) : options_(options) {}

  std::string run(const Value& value) {
    write(value, 0);
    return std::move(out_);
  }

 private:
  void write(const Value& value, int level) {
    if (const std::string* text = value.text()) {
      write_text(*text);
    } else if (value.is_list_of(Form::list) || value.is_list_of(Form::tuple)) {
      const std::vector<Value>& items = value.list()->items;
      write_all("[", "]", level, items.size(), [&](size_t i) { write(items[i], level + 1); });
    } else if (const Dict* dict = value.dict()) {
      write_dict(*dict, level);
    } else {
      out_ += scalar(value);
    }
    require_size(out_.size());
  }

  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (const bool* flag = value.boolean()) return *flag ? "true" : "false";
    if (const int64_t* number = value.integer()) return std::to_string(*number);
    if (const double* number = value.real()) {
      if (std::isnan(*number)) return "NaN";
      if (std::isinf(*number)) return *number < 0 ? "-Infinity" : "Infinity";
      return real_text(*number);
    }
    fail(fmt::format("Object of type {} is not JSON serializable", value.type_name()));
  }

  template <class WriteItem>
  void write_all(const char* open, const char* close, int level, size_t size, WriteItem write_item) {
    out_ += open;
    for (size_t i = 0; i < size; ++i) {
      if (i > 0) out_ += options_.item_separator;
      new_line(level + 1);
      write_item(i);
    }
    if (size > 0) new_line(level);
    out_ += close;
  }

  void new_line(int level) {
    if (!options_.multi_line) return;
    out_ += '\n';
    for (int i = 0; i < level; ++i) out_ += options_.indent;
    require_size(out_.size());
  }

  void write_dict(const Dict& dict, int level) {
    std::vector<const Dict::Entry*> entries;
    for (const Dict::Entry& entry : dict.entries()) entries.push_back(&entry);
    if (options_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto* a, const auto* b) { return in_order(a->first, Order::less, b->first); });
    }
    write_all("{", "}", level, entries.size(), [&](size_t i) {
      write_key(entries[i]->first);
      out_ += options_.key_separator;
      write(entries[i]->second, level + 1);
    });
  }

  void write_key(const Value& key) {
    if (const std::string* text = key.text()) return write_text(*text);
    if (key.as_number() || key.is_none()) return write_text(scalar(key));
    fail(fmt::format("keys must be str, int, float, bool or None, not {}", key.type_name()));
  }

  void write_text(std::string_view text) {
    out_ += '"';
    for (size_t position = 0; position < text.size();) {
      const size_t begin = position;
      const char32_t c = next_code_point(text, position);
      if (const char* escape = short_escape(c)) {
        out_ += escape;
      } else if (c < 0x20 || (options_.ascii && c >= 0x7F)) {
        write_escape(c);
      } else {
        out_ += text.substr(begin, position - begin);
      }
    }
    out_ += '"';
  }

  static const char* short_escape(char32_t c) {
    switch (c) {
      case '"':
        return "\\\"";
      case '\\':
        return "\\\\";
      case '\n':
        return "\\n";
      case '\r':
        return "\\r";
      case '\t':
        return "\\t";
      case '\f':
        return "\\f";
      case '\b':
        return "\\b";
      default:
        return nullptr;
    }
  }

  void write_escape(char32_t c) {
    const auto value = static_cast<uint32_t>(c);
    if (c == 0x7F)
      out_ += '\x7F';
    else if (c < 0x10000)
      out_ += fmt::format("\\u{:04x}", value);
    else
      out_ += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((value - 0x10000) >> 10), 0xDC00 + ((value - 0x10000) & 0x3FF));
  }

  const JsonOptions& options_;
  std::string out_;
};

Value convert(const Json& json, int level) {
  if (level > kMaxDataDepth) fail(fmt::format("the data nests deeper than {} levels", kMaxDataDepth));
  switch (json.type()) {
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::number_integer:
      return json.get<int64_t>();
    case Json::value_t::string:
      return json.get_ref<const std::string&>();
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        fail(fmt::format("the number {} is too large: integers up to {} are supported", json.get<uint64_t>(),
                         std::numeric_limits<int64_t>::max()));
      return static_cast<int64_t>(json.get<uint64_t>());
    case Json::value_t::array: {
      std::vector<Value> items;
      for (const Json& item : json) items.push_back(convert(item, level + 1));
      return Value::list(std::move(items));
    }
    case Json::value_t::object: {
      auto dict = std::make_shared<Dict>();
      for (const auto& [key, value] : json.items()) dict->set(Value(key), convert(value, level + 1));
      return DictPtr(std::move(dict));
    }
    default:
      return None{};
  }
}

}  // namespace

std::string json_of(const Value& value, const JsonOptions& options) { return Writer(options).run(value); }

Value value_of(const Json& json) { return convert(json, 1); }

}  // namespace bolide::jinja
