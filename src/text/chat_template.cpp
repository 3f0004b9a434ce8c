#include "text/chat_template.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/files.h"
#include "core/messages.h"
#include "text/jinja_parser.h"
#include "text/jinja_repr.h"
#include "text/jinja_runtime.h"
#include "text/jinja_text.h"
#include "text/utf8.h"

namespace bolide {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxJsonDepth = 64;
constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";

// Names that a message's reasoning goes by; templates read one or another of them.
constexpr std::array<const char*, 3> kReasoning{"reasoning_content", "thinking", "reasoning"};

Json read_json(const std::filesystem::path& path) {
  try {
    const Json out = Json::parse(read_file(path, ExitCode::model), [&](int depth, Json::parse_event_t, Json&) {
      if (depth > kMaxJsonDepth) throw ModelError(fmt::format("{}: nests deeper than {} levels", path.string(), kMaxJsonDepth));
      return true;
    });
    if (!out.is_object()) throw ModelError(fmt::format("{}: is not a JSON object", path.string()));
    return out;
  } catch (const Json::exception& error) {
    throw ModelError(fmt::format("{}: is not valid JSON: {}", path.string(), error.what()));
  }
}

// The template of this name in the value of "chat_template"; nothing when there is none.
std::optional<std::string> named_template(const Json& value, const std::string& name, const std::string& file) {
  if (value.is_null()) return std::nullopt;
  if (value.is_string() && name != "default")
    throw ModelError(fmt::format("{}: chat_template is the only template, and none is named {}", file, in_quotes(name)));
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) throw ModelError(fmt::format("{}: chat_template is neither a string nor a list", file));
  std::vector<std::string> names;
  for (const Json& entry : value) {
    const bool complete = entry.is_object() && entry.contains("name") && entry["name"].is_string() && entry.contains("template") &&
                          entry["template"].is_string();
    if (!complete) throw ModelError(fmt::format("{}: chat_template holds an entry without \"name\" and \"template\"", file));
    if (entry["name"] == name) return entry["template"].get<std::string>();
    names.push_back(entry["name"].get<std::string>());
  }
  if (names.empty()) return std::nullopt;
  throw ModelError(fmt::format("{}: chat_template has no template named {}; it has: {}", file, in_quotes(name), fmt::join(names, ", ")));
}

// "</s>" or {"content": "</s>"}.
std::optional<std::string> token_text(const Json& value) {
  const Json& text = value.is_object() && value.contains("content") ? value["content"] : value;
  return text.is_string() ? std::optional(text.get<std::string>()) : std::nullopt;
}

void add_special_tokens(const std::filesystem::path& path, Json& tokens) {
  static constexpr std::array<const char*, 7> kNames{"bos_token", "eos_token", "unk_token", "sep_token",
                                                     "pad_token", "cls_token", "mask_token"};
  if (!std::filesystem::exists(path)) return;
  const Json file = read_json(path);
  for (const char* name : kNames) {
    if (!file.contains(name) || tokens.contains(name)) continue;
    if (const auto text = token_text(file[name])) tokens[name] = *text;
  }
}

[[noreturn]] void fail_at(const std::string& name, const std::string& source, uint32_t position, const std::string& text) {
  const jinja::Place place = jinja::place_of(source, position);
  throw ModelError(fmt::format("{} line {}, column {}: {}", name, place.line, place.column, text));
}

void require_messages(const Json& messages) {
  if (!messages.is_array()) throw Error("the messages are not a list");
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!messages[i].is_object()) throw Error(fmt::format("message {} is not an object with \"role\" and \"content\"", i + 1));
  }
}

// Every name of the reasoning leads to the one that is there.
Json with_reasoning_names(Json messages) {
  for (Json& message : messages) {
    const auto found = std::find_if(kReasoning.begin(), kReasoning.end(),
                                    [&](const char* name) { return message.contains(name) && !message[name].is_null(); });
    if (found == kReasoning.end()) continue;
    const Json reasoning = message[*found];
    if (!message.contains("thinking")) {
      Json first = Json::object();
      first["thinking"] = reasoning;
      first.update(message);
      message = std::move(first);
    }
    message["reasoning_content"] = reasoning;
  }
  return messages;
}

// Appends the tag to the text that is to be continued; returns that text.
std::string mark_final_message(Json& messages, const std::string& field) {
  if (messages.empty()) throw Error("continue_final_message is set, but there is no message");
  Json& last = messages.back();
  const auto wrong = [&] { return Error(fmt::format("continue_final_message is set, but the last message has no text in \"{}\"", field)); };
  if (!last.contains(field) || last[field].is_null()) throw wrong();
  const auto mark = [](Json& text) {
    const auto before = text.get<std::string>();
    text = before + std::string(kContinueTag);
    return before;
  };
  Json& value = last[field];
  if (value.is_array()) {
    for (auto part = value.rbegin(); part != value.rend(); ++part) {
      if (part->is_object() && part->contains("text") && (*part)["text"].is_string()) return mark((*part)["text"]);
    }
    throw wrong();
  }
  if (!value.is_string()) throw wrong();
  const std::string before = mark(value);
  for (const char* other : kReasoning) {
    const bool is_reasoning = std::find(kReasoning.begin(), kReasoning.end(), field) != kReasoning.end();
    if (is_reasoning && other != field && last.contains(other) && last[other] == before) last[other] = value;
  }
  return before;
}

// The rendered text up to the tag, without the blanks that a template trimmed.
std::string cut_at_tag(std::string text, const std::string& message) {
  const std::string_view tag = jinja::strip(kContinueTag, jinja::Side::both);
  const size_t at = text.rfind(tag);
  if (at == std::string::npos || text.find(jinja::strip(message, jinja::Side::both)) == std::string::npos)
    throw Error("continue_final_message is set, but the template leaves parts of the last message out");
  const bool whole = std::string_view(text).substr(at).starts_with(kContinueTag);
  text.resize(at);
  return whole ? text : std::string(jinja::strip(text, jinja::Side::right));
}

}  // namespace

nlohmann::ordered_json load_special_tokens(const std::filesystem::path& folder) {
  Json tokens = Json::object();
  add_special_tokens(folder / "tokenizer_config.json", tokens);
  add_special_tokens(folder / "special_tokens_map.json", tokens);
  return tokens;
}

std::optional<ChatTemplate> ChatTemplate::load(const std::filesystem::path& folder, const std::string& name) {
  const std::filesystem::path own = folder / "chat_template.jinja", config = folder / "tokenizer_config.json";
  const std::filesystem::path other = folder / "additional_chat_templates" / (name + ".jinja");
  const bool plain_name = !name.empty() && name.find('/') == std::string::npos;
  if (plain_name && name != "default" && std::filesystem::exists(other))
    return parse(read_file(other, ExitCode::model), other.string(), load_special_tokens(folder));
  if (std::filesystem::exists(own) && name != "default")
    throw ModelError(fmt::format("{} has no template named {}: {} is not there", folder.string(), in_quotes(name), other.string()));
  if (std::filesystem::exists(own)) return parse(read_file(own, ExitCode::model), own.string(), load_special_tokens(folder));
  if (!std::filesystem::exists(config)) return std::nullopt;
  const Json settings = read_json(config);
  if (!settings.contains("chat_template")) return std::nullopt;
  auto source = named_template(settings["chat_template"], name, config.string());
  if (!source) return std::nullopt;
  return parse(std::move(*source), "the chat_template of " + config.string(), load_special_tokens(folder));
}

ChatTemplate ChatTemplate::parse(std::string source, std::string name, Json special_tokens) {
  if (const auto bad = first_invalid_utf8(source)) throw ModelError(fmt::format("{}: is not valid UTF-8 at byte {}", name, *bad));
  ChatTemplate out;
  try {
    out.parsed_ = std::make_shared<const jinja::Template>(jinja::parse_template(source));
  } catch (const jinja::SyntaxFailure& failure) {
    fail_at(name, jinja::normalize_source(source), failure.position, failure.text);
  } catch (const jinja::Failure& failure) {
    throw ModelError(fmt::format("{}: {}", name, failure.text));
  }
  out.name_ = std::move(name);
  out.special_tokens_ = std::move(special_tokens);
  return out;
}

std::string ChatTemplate::render(const Json& messages, const Json& kwargs) const {
  require_messages(messages);
  if (!kwargs.is_null() && !kwargs.is_object()) throw Error("the template's arguments are not a JSON object");
  Json conversation = with_reasoning_names(messages);
  std::optional<std::string> open;
  if (kwargs.contains("continue_final_message")) {
    const Json& field = kwargs["continue_final_message"];
    const bool wanted = field.is_string() || (field.is_boolean() && field.get<bool>());
    if (wanted && kwargs.contains("add_generation_prompt") && kwargs["add_generation_prompt"] == true)
      throw Error("continue_final_message and add_generation_prompt exclude each other");
    if (wanted) open = mark_final_message(conversation, field.is_string() ? field.get<std::string>() : "content");
  }
  jinja::Runtime runtime(*parsed_);
  try {
    runtime.define("messages", jinja::value_of(conversation));
    runtime.define("tools", jinja::None{});
    runtime.define("documents", jinja::None{});
    runtime.define("add_generation_prompt", false);
    for (const auto& [key, value] : special_tokens_.items()) runtime.define(key, jinja::value_of(value));
    for (const auto& [key, value] : kwargs.items()) {
      if (key != "continue_final_message") runtime.define(key, jinja::value_of(value));
    }
    std::string text = runtime.render();
    return open ? cut_at_tag(std::move(text), *open) : text;
  } catch (const jinja::RenderFailure& failure) {
    fail_at(name_, parsed_->source, failure.position, failure.text);
  } catch (const jinja::Failure& failure) {
    throw Error(fmt::format("the conversation cannot be given to the chat template: {}", failure.text));
  }
}

bool ChatTemplate::writes(std::string_view text) const {
  const auto& literals = parsed_->literals;
  return std::any_of(literals.begin(), literals.end(), [&](const std::string& literal) { return literal.find(text) != std::string::npos; });
}

bool ChatTemplate::reads(std::string_view variable) const {
  for (size_t i = 0; i < parsed_->names.size(); ++i) {
    if (parsed_->names[i] == variable) return parsed_->read.contains(static_cast<jinja::NameId>(i));
  }
  return false;
}

}  // namespace bolide
