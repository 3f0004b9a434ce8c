// bolide template: conversations to the text that a model's chat template makes of them.
#include <unistd.h>

#include <optional>

#include "cli/chat_options.h"
#include "cli/command.h"
#include "cli/common_options.h"
#include "cli/json.h"
#include "cli/streams.h"
#include "cli/tokenizer_input.h"
#include "core/messages.h"
#include "text/utf8.h"

namespace bolide {
namespace {

constexpr std::string_view kHelp = R"(Usage: bolide template -m DIR|NAME [-p TEXT | -f TALK.json | --input-file CASES.jsonl] [FLAGS]
Prints the prompt that the model's chat template makes of a conversation. The folder needs to hold
tokenizer files only (chat_template.jinja, or tokenizer_config.json with "chat_template").

Input     -m, --model DIR|NAME    folder, or Org/Name[@REV] in the Hugging Face cache
                                  (left out: none beside --chat-template, else the
                                  quickstart's model); --revision REV  --offline
          -p, --prompt TEXT       one message of the user; '-' = standard input, the default
          -f, --file FILE         one conversation: a JSON list of messages, or an object as below
          --input-file FILE       lines {"messages": [...], "kwargs": {...}}, '-' = standard input;
                                  a line out for each, {"text": ...} or {"error": ...}
Template  --system TEXT, --system-file FILE    a system message before the prompt
          --chat-template FILE|TEXT            instead of the folder's own
          --chat-template-kwargs JSON          variables, such as {"enable_thinking": false}
          --think, --no-think, --reasoning on|off|auto   what enable_thinking is
          --no-generation-prompt  without the beginning of the answer (of JSON input,
                                  add_generation_prompt decides)
Output    --output-format F       text; json, jsonl: {"text": ...}
Console   -q  -v  --log-level L  --log-file F  --color C, --no-color  --no-progress
          --show-config  --list-flags  --version  -h, --help

Example
  bolide template -m models/SmolLM2-135M-Instruct --system "Be brief." -p "What is 2 + 2?"
)";

struct Options {
  ConsoleOptions console;
  ChatOptions chat;
  ModelOptions model;
  std::optional<std::string> prompt, file, input_file;
  bool generation_prompt = true;
  std::string output_format;  // empty: text for one conversation, jsonl for JSON lines

  void add_to(Flags& flags) {
    model.add_folder_to(flags);
    flags.only_one_of({flags.value("-p,--prompt", prompt), flags.value("-f,--file", file), flags.value("-i,--input-file", input_file)});
    chat.add_to(flags);
    flags.flag("--generation-prompt,!--no-generation-prompt", generation_prompt);
    flags.value("--output-format", output_format).one_of({"text", "json", "jsonl"});
    console.add_to(flags);
  }

  void check() const {
    if ((file || input_file) && (chat.system || chat.system_file))
      throw UsageError("--system goes with --prompt; a JSON conversation holds its own system message");
  }
};

ChatTemplate require_template(Options& options) {
  if (!options.chat.chat_template || options.model.asked) options.model.resolve();
  auto found = options.chat.load(options.model.folder);
  if (found) return *found;
  throw ModelError(
      fmt::format("{} holds no chat template (chat_template.jinja, or \"chat_template\" in tokenizer_config.json). Give one with "
                  "--chat-template FILE",
                  in_quotes(options.model.folder)));
}

// {"messages": ..., "kwargs": ...} under the flags' own arguments.
std::string render_object(const ChatTemplate& chat, const Json& object, const Json& flags) {
  Json kwargs = Json::object();
  if (const auto given = object.find("kwargs"); given != object.end() && !given->is_null()) {
    if (!given->is_object()) throw Error("\"kwargs\" is not an object");
    kwargs = *given;
  }
  kwargs.update(flags);
  return chat.render(require_member(object, "messages"), kwargs);
}

void convert_lines(const Options& options, const ChatTemplate& chat, const Json& flags) {
  const bool text_only = options.output_format == "text";
  convert_jsonl(*options.input_file, [&](const Json& object) {
    if (text_only) return render_object(chat, object, flags) + "\n";
    try {
      return json_text(Json{{"text", render_object(chat, object, flags)}}) + "\n";
    } catch (const Error& error) {
      return json_text(Json{{"error", error.what()}}) + "\n";
    }
  });
}

std::string render_one(const Options& options, const ChatTemplate& chat, Json flags) {
  if (options.file) {
    Json object = parse_json(read_input(*options.file));
    if (object.is_array()) object = Json{{"messages", std::move(object)}};
    if (!object.is_object()) throw Error(fmt::format("{} is neither a list of messages nor an object with \"messages\"", *options.file));
    return render_object(chat, object, flags);
  }
  const std::string text = options.prompt && *options.prompt != "-" ? *options.prompt : read_input("-");
  if (const auto offset = first_invalid_utf8(text)) throw Error(fmt::format("the prompt is not valid UTF-8 at byte {}", *offset));
  if (!flags.contains("add_generation_prompt")) flags["add_generation_prompt"] = options.generation_prompt;
  return chat.render(options.chat.messages(text), flags);
}

}  // namespace

ExitCode run_template(const Arguments& arguments) {
  Options options;
  Flags flags("template", kHelp);
  options.add_to(flags);
  if (!flags.parse(arguments)) return ExitCode::ok;
  options.console.start();
  options.check();
  const ChatTemplate chat = require_template(options);
  Json kwargs = options.chat.kwargs();
  if (flags.given("--generation-prompt")) kwargs["add_generation_prompt"] = options.generation_prompt;
  if (options.input_file) {
    convert_lines(options, chat, kwargs);
    return ExitCode::ok;
  }
  const std::string text = render_one(options, chat, std::move(kwargs));
  ResultStream out;
  out.write(options.output_format.starts_with("json") ? json_text(Json{{"text", text}}) + "\n" : text);
  if (options.output_format != "json" && options.output_format != "jsonl" && isatty(STDOUT_FILENO)) out.write("\n");
  out.finish();
  return ExitCode::ok;
}

}  // namespace bolide
