// A model's own chat template, rendered as transformers' apply_chat_template renders it.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace bolide {

namespace jinja {
struct Template;
}

// Immutable; a copy is cheap. Safe to render from several threads at once.
class ChatTemplate {
 public:
  // chat_template.jinja, else "chat_template" of tokenizer_config.json (a string, or a list of {name, template}: `name` or "default").
  // nullopt: the folder has none. Throws ModelError for unreadable files and (with line and column) for syntax that is not supported.
  static std::optional<ChatTemplate> load(const std::filesystem::path& folder, const std::string& name = "default");
  // `name` is said in errors. bos/eos/... come from `special_tokens` (object of strings: bos_token, eos_token, ...).
  static ChatTemplate parse(std::string source, std::string name, nlohmann::ordered_json special_tokens);

  // messages: array of objects. kwargs: object (add_generation_prompt, tools, enable_thinking, ...), visible as variables. As in
  // transformers, tools and documents are none and add_generation_prompt is false unless given; a message's reasoning is also found
  // under the other names that templates know (reasoning_content, thinking); continue_final_message leaves the last message open.
  // Throws ModelError with line and column; raise_exception's own text is part of it.
  std::string render(const nlohmann::ordered_json& messages, const nlohmann::ordered_json& kwargs) const;

  // Whether the template reads the variable (e.g. "enable_thinking").
  bool reads(std::string_view variable) const;
  // Whether `text` stands in what the template itself writes: its text and its string constants.
  bool writes(std::string_view text) const;
  // The file or flag it came from.
  const std::string& name() const { return name_; }
  const nlohmann::ordered_json& special_tokens() const { return special_tokens_; }

 private:
  ChatTemplate() = default;
  std::string name_;
  nlohmann::ordered_json special_tokens_;
  std::shared_ptr<const jinja::Template> parsed_;
};

// bos_token, eos_token, unk_token, ... of a folder's tokenizer_config.json (special_tokens_map.json for those that it lacks): what a
// template sees as variables. Empty object when there is neither file.
nlohmann::ordered_json load_special_tokens(const std::filesystem::path& folder);

}  // namespace bolide
