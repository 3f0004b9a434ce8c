// bolide chat: questions and answers in turn, at a terminal.
#include <unistd.h>

#include <cstdlib>

#include "cli/chat_commands.h"
#include "cli/command.h"
#include "cli/line_input.h"
#include "cli/log.h"
#include "core/human.h"
#include "text/utf8.h"

namespace bolide {
namespace {

constexpr std::string_view kPrompt = ">>> ", kMorePrompt = "... ", kQuotes = "\"\"\"";

void require_terminal() {
  for (const auto& [fd, name] : {std::pair{STDIN_FILENO, "standard input"}, std::pair{STDOUT_FILENO, "standard output"}}) {
    if (isatty(fd)) continue;
    throw UsageError(
        fmt::format("chat is a conversation at a terminal, and {} is none. For scripts: bolide generate -p TEXT, or bolide batch", name));
  }
}

// What a person says next: one line, or several between """ marks.
InputLine read_message(LineInput& input) {
  InputLine first = input.read(std::string(kPrompt));
  if (first.end != InputEnd::line || first.as_is) return first;
  // A text of several lines may also follow a command: /system """
  size_t open = first.text.find_first_not_of(" \t");
  if (open != std::string::npos && first.text[open] == '/')
    open = first.text.find_first_not_of(" \t", std::min(first.text.find(' '), first.text.size()));
  if (open == std::string::npos || first.text.compare(open, kQuotes.size(), kQuotes) != 0) return first;
  std::string text = first.text.substr(open + kQuotes.size());
  first.text.resize(open);
  while (!text.ends_with(kQuotes)) {
    const InputLine more = input.read(std::string(kMorePrompt));
    if (more.end == InputEnd::end_of_input) {  // what was typed is the message
      first.text += text;
      return first;
    }
    if (more.end != InputEnd::line) return {more.end, "", true};
    text += (text.empty() ? "" : "\n") + more.text;
  }
  text.resize(text.size() - kQuotes.size());
  if (text.ends_with('\n')) text.pop_back();
  first.text += text;
  return first;
}

class ChatLoop {
 public:
  ChatLoop(ChatRoom& room, LineInput& input) : room_(room), input_(input) {}

  ExitCode run() {
    for (;;) {
      const InputLine said = read_message(input_);
      switch (said.end) {
        case InputEnd::end_of_input:
          return ExitCode::ok;
        case InputEnd::terminated:
          return ExitCode::terminated;
        case InputEnd::interrupted:
          if (!said.begun && asked_) return ExitCode::interrupted;
          asked_ = !said.begun;
          if (asked_) room_.screen.say("Ctrl-C once more leaves; so do Ctrl-D and /exit");
          continue;
        case InputEnd::line:
          asked_ = false;
      }
      const ChatNext next = act(said);
      if (next == ChatNext::leave) return ExitCode::ok;
      if (next == ChatNext::terminate) return ExitCode::terminated;
    }
  }

 private:
  // What goes wrong in one turn ends that turn alone.
  ChatNext act(const InputLine& line) {
    const std::string& said = line.text;
    try {
      if (said.find_first_not_of(" \t\n") == std::string::npos) return ChatNext::go_on;
      if (const auto offset = first_invalid_utf8(said))
        throw Error(fmt::format("the message is not valid UTF-8 at byte {}. It was not sent", *offset));
      if (!line.as_is && said.starts_with('/') && !said.starts_with("//")) return run_chat_command(room_, said);
      const std::string question = !line.as_is && said.starts_with("//") ? said.substr(1) : said;
      return answer_in(room_, &question);
    } catch (const std::exception& error) {
      report_error(error.what());
      return ChatNext::go_on;
    }
  }

  ChatRoom& room_;
  LineInput& input_;
  bool asked_ = false;
};

void greet(const ChatSession& session, const ChatScreen& screen) {
  const EngineInfo& info = session.engine().info();
  screen.note(fmt::format("{} | {} | context {} tokens | /help lists commands", session.model_name(), info.device_reason,
                          with_commas(info.ctx_size)));
  const auto& kwargs = session.template_kwargs;
  if (kwargs.contains("enable_thinking") && !session.chat_template().reads("enable_thinking"))
    log_warning("{}: the chat template does not read enable_thinking, so it changes nothing",
                kwargs["enable_thinking"] == true ? "--think" : "--no-think");
}

}  // namespace

ExitCode run_chat(const Arguments& arguments) {
  ChatFlags options;
  Flags flags("chat", kChatHelp);
  options.add_to(flags);
  if (!flags.parse(arguments)) return ExitCode::ok;
  const ConsoleOptions& console = options.run.console;
  options.run.console.start();
  if (options.run.device.listed()) return ExitCode::ok;
  options.run.check();
  options.run.model.resolve();
  require_terminal();
  ChatSession session(options);
  ChatScreen screen(console.log.color, console.quiet);
  InputHistory history(options.no_history ? std::filesystem::path() : chat_history_path());
  SignalQueue signals;
  const std::unique_ptr<LineInput> input = make_line_input(screen.fd(), signals, history, screen.colors());
  ChatRoom room{session, screen, signals, options.stats, std::nullopt};
  greet(session, screen);
  return ChatLoop(room, *input).run();
}

}  // namespace bolide
