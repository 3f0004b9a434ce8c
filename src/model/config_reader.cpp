#include "model/config_reader.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/messages.h"

namespace bolide {
namespace {

using nlohmann::json;

// A value as a message shows it. Containers are named, not printed: they may be deep.
std::string value_text(const json& value) {
  if (value.is_null()) return "null";
  if (value.is_string()) return in_quotes(value.get_ref<const std::string&>(), 60);
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  return value.dump();
}

}  // namespace

ConfigReader::ConfigReader(const json& document, std::string source)
    : object_(document.is_object() ? &document : nullptr),
      source_(std::move(source)),
      problems_(std::make_shared<std::vector<std::string>>()) {
  if (object_ == nullptr) problem(fmt::format("is {}, not an object", value_text(document)));
}

ConfigReader::ConfigReader(const json& document, const ConfigReader& parent, const std::string& key)
    : object_(&document), source_(parent.source_), prefix_(parent.prefix_ + key + "."), problems_(parent.problems_) {}

bool ConfigReader::present(std::string_view key) const { return object_ != nullptr && object_->find(key) != object_->end(); }

bool ConfigReader::has(std::string_view key) const {
  if (object_ == nullptr) return false;
  const auto at = object_->find(key);
  return at != object_->end() && !at->is_null();
}

const json* ConfigReader::find(const std::string& key) {
  read_.insert(key);
  if (object_ == nullptr) return nullptr;
  const auto at = object_->find(key);
  return at == object_->end() || at->is_null() ? nullptr : &*at;
}

std::string ConfigReader::full_name(const std::string& key) const { return in_quotes(prefix_ + key); }

void ConfigReader::wrong(const std::string& key, const json& value, const std::string& wanted) {
  problem(fmt::format("{} is {}, must be {}", full_name(key), value_text(value), wanted));
}

std::optional<int64_t> ConfigReader::as_int(const std::string& key, const json& value, int64_t least, int64_t most) {
  if (!value.is_number_integer()) {
    wrong(key, value, "an integer");
    return std::nullopt;
  }
  const bool too_large = value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  if (too_large || value.get<int64_t>() < least || value.get<int64_t>() > most) {
    wrong(key, value, fmt::format("from {} to {}", least, most));
    return std::nullopt;
  }
  return value.get<int64_t>();
}

std::optional<double> ConfigReader::as_number(const std::string& key, const json& value, double least, double most) {
  if (!value.is_number()) {
    wrong(key, value, "a number");
    return std::nullopt;
  }
  const double number = value.get<double>();
  if (!(number >= least && number <= most)) {
    wrong(key, value, fmt::format("from {} to {}", least, most));
    return std::nullopt;
  }
  return number;
}

int64_t ConfigReader::require_int(const std::string& key, int64_t least, int64_t most) {
  const json* value = find(key);
  if (value == nullptr) {
    problem(fmt::format("{} is missing", full_name(key)));
    return least;
  }
  return as_int(key, *value, least, most).value_or(least);
}

int64_t ConfigReader::int_or(const std::string& key, int64_t fallback, int64_t least, int64_t most) {
  return optional_int(key, least, most).value_or(fallback);
}

std::optional<int64_t> ConfigReader::optional_int(const std::string& key, int64_t least, int64_t most) {
  const json* value = find(key);
  return value == nullptr ? std::nullopt : as_int(key, *value, least, most);
}

double ConfigReader::require_number(const std::string& key, double least, double most) {
  const json* value = find(key);
  if (value == nullptr) {
    problem(fmt::format("{} is missing", full_name(key)));
    return least;
  }
  return as_number(key, *value, least, most).value_or(least);
}

double ConfigReader::number_or(const std::string& key, double fallback, double least, double most) {
  const json* value = find(key);
  return value == nullptr ? fallback : as_number(key, *value, least, most).value_or(fallback);
}

bool ConfigReader::bool_or(const std::string& key, bool fallback) {
  const json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    wrong(key, *value, "true or false");
    return fallback;
  }
  return value->get<bool>();
}

std::optional<std::string> ConfigReader::optional_string(const std::string& key) {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) {
    wrong(key, *value, "a string");
    return std::nullopt;
  }
  return value->get<std::string>();
}

std::string ConfigReader::string_or(const std::string& key, const std::string& fallback) { return optional_string(key).value_or(fallback); }

std::optional<std::vector<int64_t>> ConfigReader::optional_int_list(const std::string& key, int64_t least, int64_t most,
                                                                    size_t most_entries) {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  std::vector<int64_t> out;
  if (!value->is_array()) {
    if (const auto one = as_int(key, *value, least, most)) out.push_back(*one);
    return out;
  }
  if (value->size() > most_entries) {
    problem(fmt::format("{} has {} entries, at most {} are supported", full_name(key), value->size(), most_entries));
    return out;
  }
  for (const json& entry : *value) {
    const auto one = as_int(key, entry, least, most);
    if (!one) break;
    out.push_back(*one);
  }
  return out;
}

std::optional<std::vector<std::string>> ConfigReader::optional_string_list(const std::string& key, size_t most_entries) {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  std::vector<std::string> out;
  if (!value->is_array()) {
    wrong(key, *value, "a list of strings");
    return out;
  }
  if (value->size() > most_entries) {
    problem(fmt::format("{} has {} entries, at most {} are supported", full_name(key), value->size(), most_entries));
    return out;
  }
  for (const json& entry : *value) {
    if (!entry.is_string()) {
      wrong(key, *value, "a list of strings");
      break;
    }
    out.push_back(entry.get<std::string>());
  }
  return out;
}

std::optional<ConfigReader> ConfigReader::optional_object(const std::string& key) {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) {
    wrong(key, *value, "an object");
    return std::nullopt;
  }
  return ConfigReader(*value, *this, key);
}

bool ConfigReader::empty() const { return object_ == nullptr || object_->empty(); }

bool ConfigReader::holds_objects() const {
  if (object_ == nullptr) return false;
  for (const json& value : *object_) {
    if (value.is_object()) return true;
  }
  return false;
}

void ConfigReader::throw_problems() const {
  if (!problems_->empty()) throw ModelError(problems_text(*problems_, source_));
}

std::vector<std::string> ConfigReader::unread() const {
  std::vector<std::string> names;
  if (object_ == nullptr) return names;
  for (const auto& item : object_->items()) {
    if (!read_.contains(item.key())) names.push_back(item.key());
  }
  return names;
}

}  // namespace bolide
