#include "cli/chat_conversation.h"

#include "cli/json_fields.h"
#include "cli/streams.h"
#include "core/files.h"
#include "core/messages.h"

namespace bolide {
namespace {

constexpr const char* kFormat = "bolide-conversation";

Json message(const char* role, const std::string& content) { return {{"role", role}, {"content", content}}; }

void require_all_read(const JsonFields& fields, const std::string& where) {
  const std::vector<std::string> unread = fields.unread();
  if (!unread.empty())
    throw Error(fmt::format("{} holds {}, which version {} does not know", where, in_quotes(unread.front()), kConversationVersion));
}

std::string required_text(JsonFields& fields, const char* name, const std::string& where) {
  const std::optional<std::string> text = fields.text(name);
  if (!text) throw Error(fmt::format("{} has no \"{}\"", where, name));
  return *text;
}

// The role that a message must have: a system message may stand first, a question is followed by its answer.
void require_order(const Conversation& so_far, bool question_open, size_t index, const std::string& role, const std::string& where) {
  const std::string expected = question_open ? "assistant" : "user";
  const bool system_here = index == 0 && so_far.turns.empty() && role == "system";
  if (role != expected && !system_here)
    throw Error(fmt::format("{} has the role {}, where \"{}\" is due", where, in_quotes(role), expected));
}

Conversation read_messages(const Json& messages) {
  if (!messages.is_array()) throw Error("\"messages\" is not a list");
  Conversation out;
  bool question_open = false;
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string where = fmt::format("message {}", i + 1);
    if (!messages[i].is_object()) throw Error(where + " is not an object");
    JsonFields fields(messages[i]);
    const std::string role = required_text(fields, "role", where);
    std::string content = required_text(fields, "content", where);
    require_all_read(fields, where);
    require_order(out, question_open, i, role, where);
    if (role == "system") {
      out.system = std::move(content);
    } else if (role == "user") {
      out.turns.push_back({std::move(content), ""});
      question_open = true;
    } else {
      out.turns.back().answer = std::move(content);
      question_open = false;
    }
  }
  if (question_open) throw Error("the last question has no answer");
  return out;
}

SavedConversation read_saved(const Json& json) {
  if (!json.is_object()) throw Error("it is not a JSON object");
  JsonFields fields(json);
  const std::optional<std::string> format = fields.text("format");
  if (!format || *format != kFormat) throw Error(fmt::format("it is no saved conversation: \"format\" is not \"{}\"", kFormat));
  const std::optional<int64_t> version = fields.integer("version", 1, std::numeric_limits<int32_t>::max());
  if (!version) throw Error("it has no \"version\"");
  if (*version > kConversationVersion) {
    throw Error(fmt::format("it was saved in version {} of the format, and this program knows versions up to {}. Use a newer bolide",
                            *version, kConversationVersion));
  }
  SavedConversation out;
  out.model = required_text(fields, "model", "it");
  const Json* messages = fields.find("messages");
  if (!messages) throw Error("it has no \"messages\"");
  require_all_read(fields, "it");
  out.conversation = read_messages(*messages);
  return out;
}

}  // namespace

Json Conversation::messages(const std::string* question) const {
  Json out = Json::array();
  if (system) out.push_back(message("system", *system));
  for (const ChatTurn& turn : turns) {
    out.push_back(message("user", turn.question));
    out.push_back(message("assistant", turn.answer));
  }
  if (question) out.push_back(message("user", *question));
  return out;
}

std::string conversation_text(const Conversation& conversation, const std::string& model) {
  const Json json{{"format", kFormat}, {"version", kConversationVersion}, {"model", model}, {"messages", conversation.messages()}};
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

SavedConversation read_conversation(const std::string& text) { return read_saved(parse_json(text)); }

void save_conversation(const std::filesystem::path& path, const Conversation& conversation, const std::string& model) {
  write_file(path, conversation_text(conversation, model));
}

SavedConversation load_conversation(const std::filesystem::path& path) {
  const std::string text = read_input(path.string());
  try {
    return read_conversation(text);
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}", in_quotes(path.string()), error.what()));
  }
}

}  // namespace bolide
