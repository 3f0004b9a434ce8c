#include "cli/chat_options.h"

#include <filesystem>

#include "cli/streams.h"
#include "core/messages.h"
#include "text/utf8.h"

namespace bolide {
namespace {

// A template holds tags or line feeds, a file name does not.
bool looks_like_template(const std::string& text) {
  return text.find("{{") != std::string::npos || text.find("{%") != std::string::npos || text.find('\n') != std::string::npos;
}

}  // namespace

void ChatOptions::add_to(Flags& flags) {
  const Flag text = flags.value("--system,--system-prompt", system);
  const Flag file = flags.value("--system-file", system_file);
  text.excludes(file);
  flags.alias("-sys", "--system");
  flags.alias("-sysf", "--system-file");
  flags.value("--chat-template,--chat-template-file", chat_template);
  flags.value("--chat-template-kwargs", template_kwargs);
  const Flag flag = flags.optional_flag("--think,--thinking,!--no-think,!--no-thinking", think);
  const auto reason = [this](const std::string& when) { think = when == "auto" ? std::nullopt : std::optional(when == "on"); };
  flags.callback("--reasoning", reason).one_of({"on", "off", "auto"}).excludes(flag);
}

std::optional<std::string> ChatOptions::given() const {
  if (system) return "--system";
  if (system_file) return "--system-file";
  if (chat_template) return "--chat-template";
  if (!template_kwargs.empty()) return "--chat-template-kwargs";
  if (think) return *think ? "--think" : "--no-think";
  return std::nullopt;
}

std::optional<ChatTemplate> ChatOptions::load(const std::string& folder) const {
  if (!chat_template) return ChatTemplate::load(folder);
  const Json tokens = folder.empty() ? Json::object() : load_special_tokens(folder);
  std::error_code ignored;
  if (std::filesystem::is_regular_file(*chat_template, ignored))
    return ChatTemplate::parse(read_input(*chat_template), *chat_template, tokens);
  if (!looks_like_template(*chat_template)) {
    throw UsageError(
        fmt::format("--chat-template {} is neither a file nor a template (which would hold '{{{{' or '{{%')", in_quotes(*chat_template)));
  }
  return ChatTemplate::parse(*chat_template, "--chat-template", tokens);
}

Json ChatOptions::messages(const std::string& prompt) const {
  Json out = Json::array();
  if (system || system_file) {
    const std::string text = system ? *system : read_input(*system_file);
    if (const auto offset = first_invalid_utf8(text)) throw Error(fmt::format("the system message is not valid UTF-8 at byte {}", *offset));
    out.push_back({{"role", "system"}, {"content", text}});
  }
  out.push_back({{"role", "user"}, {"content", prompt}});
  return out;
}

Json ChatOptions::kwargs() const {
  Json out = Json::object();
  if (!template_kwargs.empty()) {
    try {
      out = parse_json(template_kwargs);
    } catch (const Error& error) {
      throw UsageError(fmt::format("--chat-template-kwargs: {}", error.what()));
    }
    if (!out.is_object()) throw UsageError("--chat-template-kwargs is not a JSON object such as {\"enable_thinking\": false}");
  }
  if (think) out["enable_thinking"] = *think;
  return out;
}

}  // namespace bolide
