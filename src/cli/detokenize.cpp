// bolide detokenize: token ids to text.
#include <unistd.h>

#include <limits>
#include <optional>

#include "cli/command.h"
#include "cli/common_options.h"
#include "cli/json.h"
#include "cli/streams.h"
#include "cli/tokenizer_input.h"
#include "cli/values.h"

namespace bolide {
namespace {

constexpr std::string_view kHelp = R"(Usage: bolide detokenize -m DIR|NAME [ID ... | --ids 1,2,3 | --input-file IDS.jsonl] [FLAGS]
Prints the text of token ids. The folder needs to hold tokenizer files only (tokenizer.json or
tokenizer.model).

Input     -m, --model DIR|NAME    folder, or Org/Name[@REV] in the Hugging Face cache
                                  (left out: the quickstart's model); --revision REV  --offline
          ID ..., --ids 1,2,3     the ids; '-' = standard input, as when nothing is given
          --input-file FILE       JSON lines {"ids": [...]}, '-' = standard input; a line each
Text      --skip-special          leave special tokens out
Output    --output-format F       text; json, jsonl: {"text": ...}
Console   -q  -v  --log-level L  --log-file F  --color C, --no-color  --no-progress
          --show-config  --list-flags  --version  -h, --help

Example
  bolide detokenize -m models/SmolLM2-135M 19556 28 905
)";

struct Options {
  ConsoleOptions console;
  ModelOptions model;
  std::vector<std::string> words;
  std::optional<std::string> ids, input_file;
  bool skip_special = false;
  std::string output_format;  // empty: text for one list, jsonl for JSON lines

  void add_to(Flags& flags) {
    model.add_folder_to(flags);
    flags.only_one_of({flags.value("--ids", ids), flags.value("-i,--input-file", input_file)});
    flags.flag("--skip-special,!--keep-special", skip_special);
    flags.value("--output-format", output_format).one_of({"text", "json", "jsonl"});
    flags.positional("words", words);
    console.add_to(flags);
  }
};

std::vector<int32_t> ids_of(const Json& value) {
  if (!value.is_array()) throw Error("\"ids\" is not a list");
  std::vector<int32_t> ids;
  for (const Json& id : value) {
    const bool whole = id.is_number_unsigned() && id.get<uint64_t>() <= std::numeric_limits<int32_t>::max();
    if (!whole) throw Error(fmt::format("\"ids\" holds {}, which is no token id", json_text(id).substr(0, 40)));
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

}  // namespace

ExitCode run_detokenize(const Arguments& arguments) {
  Options options;
  Flags flags("detokenize", kHelp);
  options.add_to(flags);
  if (!flags.parse(arguments)) return ExitCode::ok;
  options.console.start();
  if (!options.words.empty() && (options.ids || options.input_file))
    throw UsageError("ids are given as arguments and by a flag: choose one");
  const auto tokenizer = require_tokenizer(options.model);
  const auto result = [&](const std::vector<int32_t>& ids) { return tokenizer->decode(ids, options.skip_special); };
  const auto as_json = [](const std::string& text) { return json_text(Json{{"text", text}}) + "\n"; };
  if (options.input_file) {
    const bool json = options.output_format != "text";
    convert_jsonl(*options.input_file, [&](const Json& object) {
      const std::string text = result(ids_of(require_member(object, "ids")));
      return json ? as_json(text) : text + "\n";
    });
    return ExitCode::ok;
  }
  const bool literal = !options.words.empty() || (options.ids && *options.ids != "-");
  const std::string list = !literal ? read_input("-") : options.ids ? *options.ids : fmt::format("{}", fmt::join(options.words, ","));
  const std::string text = result(parse_ids("--ids", list));
  ResultStream out;
  if (options.output_format.starts_with("json"))
    out.write(as_json(text));
  else
    out.write(isatty(STDOUT_FILENO) ? text + "\n" : text);
  out.finish();
  return ExitCode::ok;
}

}  // namespace bolide
