// generation_config.json: the author's sampling settings and stop ids.
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <system_error>

#include "core/error.h"
#include "core/files.h"
#include "engine/engine.h"

namespace bolide {
namespace {

constexpr uintmax_t kMaxFileBytes = 1 << 20;

// Reads optional keys of one JSON object; null counts as absent.
class OptionalKeys {
 public:
  OptionalKeys(const nlohmann::json& object, std::string file) : object_(object), file_(std::move(file)) {}

  const nlohmann::json* find(const char* key) const {
    const auto at = object_.find(key);
    return at == object_.end() || at->is_null() ? nullptr : &*at;
  }
  std::optional<bool> boolean(const char* key) const {
    const nlohmann::json* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_boolean()) wrong(key, "true or false");
    return value->get<bool>();
  }
  std::optional<float> number(const char* key) const {
    const nlohmann::json* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_number()) wrong(key, "a number");
    const auto wide = value->get<double>();
    if (!(std::abs(wide) <= std::numeric_limits<float>::max())) wrong(key, "a number of ordinary size");
    return static_cast<float>(wide);
  }
  std::optional<int32_t> integer(const char* key) const {
    const nlohmann::json* value = find(key);
    if (!value) return std::nullopt;
    return integer_of(*value, key);
  }
  // One id or a list of ids.
  std::vector<int32_t> ids(const char* key) const {
    const nlohmann::json* value = find(key);
    if (!value) return {};
    if (!value->is_array()) return {integer_of(*value, key)};
    std::vector<int32_t> out;
    for (const nlohmann::json& id : *value) out.push_back(integer_of(id, key));
    return out;
  }

 private:
  [[noreturn]] void wrong(const char* key, const char* expected) const {
    throw ModelError(fmt::format("{}: '{}' must be {}. Correct it, or remove the file to do without its defaults", file_, key, expected));
  }
  int32_t integer_of(const nlohmann::json& value, const char* key) const {
    constexpr int64_t lowest = std::numeric_limits<int32_t>::min(), largest = std::numeric_limits<int32_t>::max();
    if (!value.is_number_integer()) wrong(key, "an integer");
    if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(largest)) wrong(key, "an integer of 32 bits");
    const auto wide = value.get<int64_t>();
    if (wide < lowest || wide > largest) wrong(key, "an integer of 32 bits");
    return static_cast<int32_t>(wide);
  }

  const nlohmann::json& object_;
  std::string file_;
};

}  // namespace

GenerationDefaults load_generation_config(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "generation_config.json";
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return {};
  const uintmax_t bytes = std::filesystem::file_size(file, error);
  if (!error && bytes > kMaxFileBytes) {
    throw ModelError(fmt::format("{} has {} bytes, more than a settings file can have ({})", file.string(), bytes, kMaxFileBytes));
  }
  const nlohmann::json object = nlohmann::json::parse(read_file(file, ExitCode::model), nullptr, false);
  if (object.is_discarded()) throw ModelError(fmt::format("{} is not valid JSON. Download it again", file.string()));
  if (!object.is_object()) throw ModelError(fmt::format("{} does not hold a JSON object. Download it again", file.string()));
  const OptionalKeys keys(object, file.string());
  GenerationDefaults defaults;
  defaults.do_sample = keys.boolean("do_sample");
  defaults.temperature = keys.number("temperature");
  defaults.top_p = keys.number("top_p");
  defaults.min_p = keys.number("min_p");
  defaults.repetition_penalty = keys.number("repetition_penalty");
  defaults.top_k = keys.integer("top_k");
  defaults.eos_ids = keys.ids("eos_token_id");
  return defaults;
}

}  // namespace bolide
