// Typed, checked access to the keys of a config.json: every problem is collected, so that one message can list them all.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace bolide {

// Reads one JSON object, which must outlive the reader. A key that is null counts as absent unless said otherwise. A value of the wrong
// type or outside its range is noted as a problem and replaced by one that is safe to compute with (the fallback, or the lower limit).
class ConfigReader {
 public:
  // `source` names the file in messages. A `document` that is no object is a problem.
  ConfigReader(const nlohmann::json& document, std::string source);

  bool present(std::string_view key) const;  // the key is there, null or not
  bool has(std::string_view key) const;      // the key is there and not null

  int64_t require_int(const std::string& key, int64_t least, int64_t most);
  int64_t int_or(const std::string& key, int64_t fallback, int64_t least, int64_t most);
  std::optional<int64_t> optional_int(const std::string& key, int64_t least, int64_t most);
  double require_number(const std::string& key, double least, double most);  // integers are numbers too
  double number_or(const std::string& key, double fallback, double least, double most);
  bool bool_or(const std::string& key, bool fallback);
  std::string string_or(const std::string& key, const std::string& fallback);
  std::optional<std::string> optional_string(const std::string& key);
  // One integer or a list of at most `most_entries` integers; absent: nothing.
  std::optional<std::vector<int64_t>> optional_int_list(const std::string& key, int64_t least, int64_t most, size_t most_entries);
  std::optional<std::vector<std::string>> optional_string_list(const std::string& key, size_t most_entries);
  // A reader of a nested object; its problems join this one's, with keys written "outer.inner".
  std::optional<ConfigReader> optional_object(const std::string& key);
  bool empty() const;          // the object has no keys
  bool holds_objects() const;  // a value of this object is an object itself

  // No problem so far: worth checking what follows from several values.
  bool ok() const { return problems_->empty(); }
  void problem(std::string text) { problems_->push_back(std::move(text)); }
  const std::string& source() const { return source_; }
  // One ModelError that lists every problem noted so far; does nothing if there is none.
  void throw_problems() const;
  // Keys of this object that nobody asked for, sorted.
  std::vector<std::string> unread() const;

 private:
  ConfigReader(const nlohmann::json& document, const ConfigReader& parent, const std::string& key);
  // The value, marked as read; null pointer if absent or null.
  const nlohmann::json* find(const std::string& key);
  std::string full_name(const std::string& key) const;
  void wrong(const std::string& key, const nlohmann::json& value, const std::string& wanted);
  std::optional<int64_t> as_int(const std::string& key, const nlohmann::json& value, int64_t least, int64_t most);
  std::optional<double> as_number(const std::string& key, const nlohmann::json& value, double least, double most);

  const nlohmann::json* object_;  // null if the document is no object
  std::string source_;
  std::string prefix_;  // "rope_scaling."
  std::set<std::string, std::less<>> read_;
  std::shared_ptr<std::vector<std::string>> problems_;  // shared with nested readers
};

}  // namespace bolide
