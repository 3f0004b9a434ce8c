#include "text/json_node.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace bolide {

void JsonNode::fail(std::string_view what) const {
  throw ModelError(fmt::format("{}: {} {}", *file_, path_.empty() ? "the top level" : path_, what));
}

bool JsonNode::has(const std::string& key) const {
  if (!value_->is_object()) fail("is not a JSON object");
  const auto found = value_->find(key);
  return found != value_->end() && !found->is_null();
}

JsonNode JsonNode::at(const std::string& key) const {
  if (!has(key)) fail(fmt::format("has no '{}'", key));
  return {*value_->find(key), path_.empty() ? key : path_ + "." + key, *file_};
}

std::vector<JsonNode> JsonNode::elements() const {
  if (!value_->is_array()) fail("is not a JSON array");
  std::vector<JsonNode> out;
  for (size_t i = 0; i < value_->size(); ++i) out.emplace_back((*value_)[i], fmt::format("{}[{}]", path_, i), *file_);
  return out;
}

std::string JsonNode::string(const std::string& key) const {
  const JsonNode node = at(key);
  if (!node.value_->is_string()) node.fail("is not a string");
  return node.value_->get<std::string>();
}

bool JsonNode::boolean(const std::string& key) const {
  const JsonNode node = at(key);
  if (!node.value_->is_boolean()) node.fail("is neither true nor false");
  return node.value_->get<bool>();
}

bool JsonNode::boolean(const std::string& key, bool otherwise) const { return has(key) ? boolean(key) : otherwise; }

int64_t JsonNode::integer(const std::string& key) const {
  const JsonNode node = at(key);
  if (!node.value_->is_number_integer()) node.fail("is not an integer");
  return node.value_->get<int64_t>();
}

int32_t JsonNode::token_id(const std::string& key) const { return at(key).as_token_id(); }

int32_t JsonNode::as_token_id() const {
  const bool in_range = value_->is_number_integer() && value_->get<int64_t>() >= 0 && value_->get<int64_t>() <= kMaxTokenId;
  if (!in_range) fail(fmt::format("is not a token id (an integer from 0 to {})", kMaxTokenId));
  return value_->get<int32_t>();
}

void JsonNode::unsupported_type(std::initializer_list<std::string_view> supported) const {
  fail(fmt::format("has type '{}', which bolide does not support. Supported: {}", type(), fmt::join(supported, ", ")));
}

}  // namespace bolide
