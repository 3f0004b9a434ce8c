#include "cli/chat_commands.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "cli/chat_settings.h"
#include "cli/nearest.h"
#include "core/human.h"
#include "core/messages.h"

namespace bolide {
namespace {

constexpr std::string_view kCommandHelp = R"(/help, /?             this list
/clear                forget the conversation; the system message stays
/regen                answer the last question anew
/system [TEXT]        show or set the system message; "" takes it away
/set [NAME VALUE]     show or change how answers are drawn: temperature, top-k, seed, max-tokens, stats, ...
/show [messages]      the model, the context and the settings; or the conversation
/think [on|off|auto|show|hide]   ask for thinking or not (auto: as the template has it); show or hide it
/save [FILE]          keep the conversation; -f FILE replaces another file
/load FILE            go on with a saved conversation instead of this one
/exit, /bye, /quit    leave, as Ctrl-D does

A pasted text of several lines is one message, whatever it begins with; """ begins and ends one that is typed.
// at the beginning stands for one / that begins no command.
Ctrl-C stops an answer and keeps it, or drops the line being typed.)";

ChatSettings settings_of(ChatRoom& room) { return {room.session.params, room.stats}; }

ChatNext help(ChatRoom& room, const std::string&) {
  room.screen.say(kCommandHelp);
  return ChatNext::go_on;
}

ChatNext clear(ChatRoom& room, const std::string&) {
  room.session.conversation.turns.clear();
  room.file.reset();
  room.screen.note("a new conversation");
  return ChatNext::go_on;
}

ChatNext regenerate(ChatRoom& room, const std::string&) {
  if (room.session.conversation.turns.empty()) throw Error("/regen: there is no answer yet");
  if (room.session.params.temperature == 0) room.screen.note("temperature is 0: the answer will be the same (/set temperature 0.7)");
  return answer_in(room, nullptr);
}

ChatNext set_system(ChatRoom& room, const std::string& text) {
  std::optional<std::string>& system = room.session.conversation.system;
  if (text == "\"\"")
    system.reset();
  else if (!text.empty())
    system = text;
  room.screen.say(system ? "system message: " + without_controls(*system) : "no system message");
  return ChatNext::go_on;
}

ChatNext set(ChatRoom& room, const std::string& text) {
  if (text.empty()) {
    for (const std::string& line : setting_lines(settings_of(room))) room.screen.say("  " + line);
    return ChatNext::go_on;
  }
  const size_t space = text.find_first_of(" \t");
  const size_t value = space == std::string::npos ? space : text.find_first_not_of(" \t", space);
  if (value == std::string::npos) throw UsageError(fmt::format("/set {} needs a value, as in /set temperature 0.7", in_quotes(text)));
  change_setting(settings_of(room), room.session.engine().config().vocab, text.substr(0, space), text.substr(value));
  return ChatNext::go_on;
}

void show_messages(ChatRoom& room) {
  for (const Json& message : room.session.conversation.messages()) {
    room.screen.say(fmt::format("[{}] {}", message["role"].get<std::string>(), without_controls(message["content"].get<std::string>())));
  }
}

ChatNext show(ChatRoom& room, const std::string& what) {
  if (what == "messages") {
    show_messages(room);
    return ChatNext::go_on;
  }
  if (!what.empty()) throw UsageError(fmt::format("/show {}: only 'messages' may follow", in_quotes(what)));
  const ChatSession& session = room.session;
  const EngineInfo& info = session.engine().info();
  const Json& kwargs = session.template_kwargs;
  room.screen.say(fmt::format("model {} ({}), weights {}, KV cache {}", session.model_name(), session.engine().config().architecture,
                              dtype_name(info.weights_dtype), dtype_name(info.kv_dtype)));
  room.screen.say(fmt::format("device {} ({})", info.device.name, info.device_reason));
  room.screen.say(fmt::format("conversation {} turns, {} of {} tokens{}", session.conversation.turns.size(),
                              with_commas(session.tokens_of(session.conversation)), with_commas(info.ctx_size),
                              room.file ? ", file " + room.file->string() : ""));
  if (session.conversation.system) room.screen.say("system message: " + without_controls(*session.conversation.system));
  const bool asked = kwargs.contains("enable_thinking");
  room.screen.say(fmt::format("thinking {}, {}",
                              !asked                              ? "auto"
                              : kwargs["enable_thinking"] == true ? "on"
                                                                  : "off",
                              session.hide_thinking ? "hidden" : "shown"));
  return set(room, "");
}

ChatNext think(ChatRoom& room, const std::string& what) {
  ChatSession& session = room.session;
  if (what == "show" || what == "hide") {
    session.hide_thinking = what == "hide";
  } else if (what == "auto") {
    session.template_kwargs.erase("enable_thinking");
  } else if (what.empty() || what == "on" || what == "off") {
    session.template_kwargs["enable_thinking"] = what != "off";
    if (!session.chat_template().reads("enable_thinking"))
      room.screen.say("the chat template does not read enable_thinking, so this changes nothing");
  } else {
    throw UsageError(fmt::format("/think {}: on, off, auto, show or hide", in_quotes(what)));
  }
  return ChatNext::go_on;
}

// "~/notes.json" is in the home folder, as in a shell.
std::filesystem::path file_named(const std::string& text) {
  const char* home = std::getenv("HOME");
  if (text.starts_with("~/") && home && *home) return std::filesystem::path(home) / text.substr(2);
  return std::filesystem::absolute(text);
}

ChatNext save(ChatRoom& room, const std::string& text) {
  const bool replace = text.starts_with("-f ");
  const size_t begin = replace ? text.find_first_not_of(" \t", 3) : 0;
  const std::string name = begin == std::string::npos ? "" : text.substr(begin);
  if (name.empty() && !room.file) throw UsageError("/save needs the name of a file, as in /save talk.json");
  const std::filesystem::path path = name.empty() ? *room.file : file_named(name);
  std::error_code ignored;
  const bool own = room.file && std::filesystem::weakly_canonical(*room.file, ignored) == std::filesystem::weakly_canonical(path, ignored);
  if (!own && !replace && std::filesystem::exists(path, ignored))
    throw Error(fmt::format("/save: {} is there already. /save -f {} replaces it", in_quotes(path.string()), name));
  save_conversation(path, room.session.conversation, room.session.model_name());
  room.file = path;
  room.screen.say(fmt::format("saved {} turns to {}", room.session.conversation.turns.size(), path.string()));
  return ChatNext::go_on;
}

ChatNext load(ChatRoom& room, const std::string& name) {
  if (name.empty()) throw UsageError("/load needs the name of a file, as in /load talk.json");
  const std::filesystem::path path = file_named(name);
  std::error_code ignored;
  const auto kind = std::filesystem::status(path, ignored).type();
  // A pipe or a terminal would be waited for without end.
  if (kind == std::filesystem::file_type::fifo || kind == std::filesystem::file_type::character)
    throw Error(fmt::format("/load: {} is not a file", in_quotes(path.string())));
  SavedConversation saved = load_conversation(path);
  const int64_t tokens = room.session.tokens_of(saved.conversation), context = room.session.engine().info().ctx_size;
  if (tokens >= context) {
    throw Error(fmt::format("/load: the conversation has {} tokens, and the context holds {}. Start with a larger --ctx-size",
                            with_commas(tokens), with_commas(context)));
  }
  room.session.conversation = std::move(saved.conversation);
  room.file = path;
  room.screen.say(
      fmt::format("loaded {} turns, {} of {} tokens", room.session.conversation.turns.size(), with_commas(tokens), with_commas(context)));
  if (saved.model != room.session.model_name())
    room.screen.note(fmt::format("it was saved with the model {}; the settings stay as they are", in_quotes(saved.model)));
  return ChatNext::go_on;
}

ChatNext leave(ChatRoom&, const std::string&) { return ChatNext::leave; }

struct ChatCommand {
  const char* name;
  bool takes_text;
  ChatNext (*run)(ChatRoom&, const std::string&);
};
constexpr std::array<ChatCommand, 13> kCommands{{{"/help", false, help},
                                                 {"/?", false, help},
                                                 {"/clear", false, clear},
                                                 {"/regen", false, regenerate},
                                                 {"/system", true, set_system},
                                                 {"/set", true, set},
                                                 {"/show", true, show},
                                                 {"/think", true, think},
                                                 {"/save", true, save},
                                                 {"/load", true, load},
                                                 {"/exit", false, leave},
                                                 {"/bye", false, leave},
                                                 {"/quit", false, leave}}};

}  // namespace

ChatNext run_chat_command(ChatRoom& room, const std::string& line) {
  const size_t end = std::min(line.find_first_of(" \t\n"), line.size());
  const std::string name = line.substr(0, end);
  const size_t begin = line.find_first_not_of(" \t\n", end);
  const std::string text = begin == std::string::npos ? "" : line.substr(begin, line.find_last_not_of(" \t\n") + 1 - begin);
  std::vector<std::string> names;
  for (const ChatCommand& command : kCommands) {
    names.emplace_back(command.name);
    if (command.name != name) continue;
    if (!command.takes_text && !text.empty())
      throw UsageError(fmt::format("{} takes nothing after it, and {} follows", name, in_quotes(text)));
    return command.run(room, text);
  }
  throw UsageError(fmt::format("there is no command {}. Did you mean {}? /help lists all; // begins a message with a /", in_quotes(name),
                               nearest_name(name, names)));
}

ChatNext answer_in(ChatRoom& room, const std::string* question) {
  const ChatAnswer answer =
      question ? room.session.ask(*question, room.screen, room.signals) : room.session.regenerate(room.screen, room.signals);
  const bool interrupted = answer.reason == FinishReason::cancelled;
  if (interrupted && answer.text.empty())
    room.screen.note(question ? "stopped before the answer began: the message is not kept"
                              : "stopped before the answer began: the old one stays");
  if (room.stats)
    room.screen.stats(fmt::format("[{}]", room.session.statistics(answer)));
  else if (answer.reason == FinishReason::length)
    room.screen.say(fmt::format("[{}]", room.session.why_it_ended(answer)));
  if (room.screen.failed()) return ChatNext::leave;
  return answer.terminated ? ChatNext::terminate : ChatNext::go_on;
}

}  // namespace bolide
