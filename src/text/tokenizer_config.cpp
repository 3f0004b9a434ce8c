#include "text/tokenizer_config.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "text/tokenizer.h"

namespace bolide {
namespace {

// "</s>" or {"content": "</s>"}.
std::optional<std::string> token_text(const JsonNode& root, const std::string& key) {
  if (!root.has(key)) return std::nullopt;
  const JsonNode node = root.at(key);
  return node.value().is_object() ? node.string("content") : root.string(key);
}

std::optional<bool> flag(const JsonNode& root, const std::string& key) {
  return root.has(key) ? std::optional(root.boolean(key)) : std::nullopt;
}

}  // namespace

TokenizerSettings parse_tokenizer_settings(const std::string& text, const std::string& source) {
  nlohmann::json tree;
  try {
    tree = nlohmann::json::parse(text, [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
      if (depth > 64) throw ModelError(fmt::format("{}: nests deeper than 64 levels", source));
      return true;
    });
  } catch (const nlohmann::json::exception& e) {
    throw ModelError(fmt::format("{}: is not valid JSON: {}", source, e.what()));
  }
  const JsonNode root(tree, "", source);
  TokenizerSettings out;
  out.eos_token = token_text(root, "eos_token");
  out.bos_token = token_text(root, "bos_token");
  out.add_bos_token = flag(root, "add_bos_token");
  out.add_eos_token = flag(root, "add_eos_token");
  out.add_prefix_space = flag(root, "add_prefix_space");
  out.legacy = flag(root, "legacy");
  if (root.has("added_tokens_decoder")) {
    const JsonNode table = root.at("added_tokens_decoder");
    if (!table.value().is_object()) table.fail("is not a JSON object");
    for (const auto& [key, value] : table.value().items()) {
      const JsonNode node = table.at(key);
      int32_t id = -1;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || end != key.data() + key.size() || id < 0 || id > kMaxTokenId) node.fail("has a name that is no token id");
      out.added_tokens.push_back(parse_added_token(node, id));
    }
  }
  return out;
}

TokenizerSettings load_tokenizer_settings(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "tokenizer_config.json";
  if (!std::filesystem::exists(path)) return {};
  return parse_tokenizer_settings(read_file(path, ExitCode::model), path.string());
}

TokenizerConfig load_tokenizer_config(const std::filesystem::path& folder) {
  TokenizerSettings settings = load_tokenizer_settings(folder);
  return {std::move(settings.eos_token), std::move(settings.bos_token)};
}

}  // namespace bolide
