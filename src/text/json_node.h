// A node of a JSON file together with where it stands, so that every complaint names file, path and what was expected.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace bolide {

// Refers to the value and the file name; both must outlive it.
class JsonNode {
 public:
  JsonNode(const nlohmann::json& value, std::string path, const std::string& file) : value_(&value), path_(std::move(path)), file_(&file) {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& path() const { return path_; }
  const std::string& file() const { return *file_; }

  // ModelError "tokenizer.json: decoder.decoders[2] WHAT".
  [[noreturn]] void fail(std::string_view what) const;

  bool has(const std::string& key) const;     // an object's member that is present and not null
  JsonNode at(const std::string& key) const;  // fails unless has(key)
  std::vector<JsonNode> elements() const;     // fails unless an array
  std::string type() const { return string("type"); }
  std::string string(const std::string& key) const;
  bool boolean(const std::string& key) const;
  bool boolean(const std::string& key, bool otherwise) const;
  int64_t integer(const std::string& key) const;
  int32_t token_id(const std::string& key) const;  // an integer in [0, kMaxTokenId]
  int32_t as_token_id() const;

  // For a node whose "type" is none of the supported ones.
  [[noreturn]] void unsupported_type(std::initializer_list<std::string_view> supported) const;

 private:
  const nlohmann::json* value_;
  std::string path_;
  const std::string* file_;
};

// Far above any vocabulary; bounds what a file can make the tables allocate.
constexpr int32_t kMaxTokenId = (1 << 22) - 1;

}  // namespace bolide
