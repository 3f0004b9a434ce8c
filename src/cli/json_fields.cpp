#include "cli/json_fields.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bolide {

void wrong_field(const std::string& name, const std::string& what, const Json& value) {
  std::string shown = json_text(value);
  if (shown.size() > 60) shown = value.is_object() ? "an object" : value.is_array() ? "a list" : "a text";
  throw FieldError(name, fmt::format("'{}' must be {}, not {}", name, what, shown));
}

std::vector<int32_t> ids_of(const Json& value, const std::string& name) {
  static constexpr const char* what = "a list of token ids";
  if (!value.is_array()) wrong_field(name, what, value);
  std::vector<int32_t> ids;
  ids.reserve(value.size());
  for (const Json& id : value) {
    const bool fits = id.is_number_unsigned() && id.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int32_t>::max());
    if (!fits) wrong_field(name, what, value);
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

const Json* JsonFields::find(const char* name) {
  read_.emplace_back(name);
  const auto at = object_.find(name);
  return at == object_.end() || at->is_null() ? nullptr : &*at;
}

std::optional<bool> JsonFields::boolean(const char* name) {
  const Json* value = find(name);
  if (!value) return std::nullopt;
  if (!value->is_boolean()) wrong_field(name, "true or false", *value);
  return value->get<bool>();
}

std::optional<float> JsonFields::number(const char* name) {
  const Json* value = find(name);
  if (!value) return std::nullopt;
  if (!value->is_number()) wrong_field(name, "a number", *value);
  const auto wide = value->get<double>();
  if (!(std::abs(wide) <= std::numeric_limits<float>::max())) wrong_field(name, "a number of ordinary size", *value);
  return static_cast<float>(wide);
}

std::optional<int64_t> JsonFields::integer(const char* name, int64_t lowest, int64_t largest) {
  const Json* value = find(name);
  if (!value) return std::nullopt;
  const std::string what = fmt::format("an integer from {} to {}", lowest, largest);
  if (!value->is_number_integer()) wrong_field(name, what, *value);
  constexpr auto most = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  if (value->is_number_unsigned() && value->get<uint64_t>() > most) wrong_field(name, what, *value);
  const auto wide = value->get<int64_t>();
  if (wide < lowest || wide > largest) wrong_field(name, what, *value);
  return wide;
}

std::optional<std::string> JsonFields::text(const char* name) {
  const Json* value = find(name);
  if (!value) return std::nullopt;
  if (!value->is_string()) wrong_field(name, "a string", *value);
  return value->get<std::string>();
}

std::optional<std::vector<std::string>> JsonFields::texts(const char* name) {
  static constexpr const char* what = "a string or a list of strings";
  const Json* value = find(name);
  if (!value) return std::nullopt;
  if (value->is_string()) return std::vector<std::string>{value->get<std::string>()};
  if (!value->is_array()) wrong_field(name, what, *value);
  std::vector<std::string> out;
  for (const Json& text : *value) {
    if (!text.is_string()) wrong_field(name, what, *value);
    out.push_back(text.get<std::string>());
  }
  return out;
}

std::optional<std::vector<int32_t>> JsonFields::ids(const char* name) {
  const Json* value = find(name);
  if (!value) return std::nullopt;
  return ids_of(*value, name);
}

std::vector<std::string> JsonFields::unread() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : object_.items()) {
    if (std::find(read_.begin(), read_.end(), name) == read_.end()) names.push_back(name);
  }
  return names;
}

}  // namespace bolide
