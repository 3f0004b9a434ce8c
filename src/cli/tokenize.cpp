// bolide tokenize: text to token ids.
#include <fmt/ranges.h>

#include <optional>

#include "cli/command.h"
#include "cli/common_options.h"
#include "cli/json.h"
#include "cli/streams.h"
#include "cli/tokenizer_input.h"
#include "text/utf8.h"

namespace bolide {
namespace {

constexpr std::string_view kHelp = R"(Usage: bolide tokenize -m DIR|NAME [-p TEXT | -f FILE | --input-file CASES.jsonl] [FLAGS]
Prints the token ids of a text. The folder needs to hold tokenizer files only (tokenizer.json or
tokenizer.model).

Input     -m, --model DIR|NAME    folder, or Org/Name[@REV] in the Hugging Face cache
                                  (left out: the quickstart's model); --revision REV  --offline
          -p, --prompt TEXT       '-' = standard input, as when nothing is given
          -f, --file FILE         one text, bytes as they are
          --input-file FILE       JSON lines {"text": ...}, '-' = standard input; a line each
Ids       --add-special           add BOS and the like, as the tokenizer's post-processor says
          --no-parse-special      special tokens written in the text are plain text
Output    --output-format F       text: ids with spaces between; json, jsonl: {"ids": [...]}
          --show-tokens           a line for each id with its piece (text); "tokens" in JSON
Console   -q  -v  --log-level L  --log-file F  --color C, --no-color  --no-progress
          --show-config  --list-flags  --version  -h, --help

Example
  bolide tokenize -m models/SmolLM2-135M -p "Hello, world" --show-tokens
)";

struct Options {
  ConsoleOptions console;
  ModelOptions model;
  std::optional<std::string> prompt, file, input_file;
  bool add_special = false, parse_special = true, show_tokens = false;
  std::string output_format;  // empty: text for one text, jsonl for JSON lines

  void add_to(Flags& flags) {
    model.add_folder_to(flags);
    flags.only_one_of(
        {flags.value("-p,--prompt", prompt), flags.value("-f,--file,--prompt-file", file), flags.value("-i,--input-file", input_file)});
    flags.flag("--add-special,!--no-add-special", add_special);
    flags.flag("--parse-special,!--no-parse-special", parse_special);
    flags.flag("--show-tokens", show_tokens);
    flags.value("--output-format", output_format).one_of({"text", "json", "jsonl"});
    console.add_to(flags);
  }
};

std::string piece(const Tokenizer& tokenizer, int32_t id) { return tokenizer.token(id).value_or(""); }

std::string result_text(const Options& options, const Tokenizer& tokenizer, const std::string& text, bool json) {
  if (const auto offset = first_invalid_utf8(text))
    throw Error(fmt::format("the text is not valid UTF-8: byte {} of {} (0x{:02x})", *offset, text.size(),
                            static_cast<unsigned char>(text[*offset])));
  const auto ids = tokenizer.encode(text, {.add_special = options.add_special, .parse_special = options.parse_special});
  if (json) {
    Json object{{"ids", ids}};
    if (options.show_tokens) {
      Json pieces = Json::array();
      for (const int32_t id : ids) pieces.push_back(piece(tokenizer, id));
      object["tokens"] = std::move(pieces);
    }
    return json_text(object) + "\n";
  }
  if (!options.show_tokens) return fmt::format("{}\n", fmt::join(ids, " "));
  std::string lines;
  for (const int32_t id : ids) lines += fmt::format("{}\t{}\n", id, json_text(Json(piece(tokenizer, id))));
  return lines;
}

}  // namespace

ExitCode run_tokenize(const Arguments& arguments) {
  Options options;
  Flags flags("tokenize", kHelp);
  options.add_to(flags);
  if (!flags.parse(arguments)) return ExitCode::ok;
  options.console.start();
  const auto tokenizer = require_tokenizer(options.model);
  if (options.input_file) {
    const bool json = options.output_format != "text";
    convert_jsonl(*options.input_file, [&](const Json& object) {
      const Json& text = require_member(object, "text");
      if (!text.is_string()) throw Error("\"text\" is not a string");
      return result_text(options, *tokenizer, text.get<std::string>(), json);
    });
    return ExitCode::ok;
  }
  const bool literal = options.prompt && *options.prompt != "-";
  const std::string text = literal ? *options.prompt : read_input(options.file.value_or("-"));
  ResultStream out;
  out.write(result_text(options, *tokenizer, text, options.output_format.starts_with("json")));
  out.finish();
  return ExitCode::ok;
}

}  // namespace bolide
