#include "cli/batch_options.h"

#include <algorithm>
#include <filesystem>

#include "cli/json.h"
#include "cli/streams.h"
#include "cli/values.h"

namespace bolide {

const std::string_view kBatchHelp = R"(Usage: bolide batch -m DIR -i IN.jsonl -o OUT.jsonl [FLAGS]
Answers every line of a file, many at a time. A bad line becomes an error record and the run goes
on (exit code 3 at the end).

Files     -i, --input-file FILE   a request a line: {"custom_id", "method", "url", "body"} as in
                                  OpenAI's batches (url /v1/chat/completions or /v1/completions),
                                  {"prompt": ...}, {"messages": [...]}, or a text
          --input-format auto|jsonl|text   auto: jsonl when the first line begins with a brace
          -o, --output-file FILE  a record a line, "line" says of which; '-' = standard output
          --error-file FILE       records of failed lines go there instead
          --resume                go on after an interruption: finished lines stay, others follow
          --overwrite             replace what the output holds (without it, that is an error)
          --unordered             write records as they come, not in the input's order
          --fail-fast --strict    stop at the first failed line / unknown fields are errors
Model     -m, --model DIR|NAME    folder, or Org/Name[@REV] in the Hugging Face cache
                                  (left out: the quickstart's model); --revision REV  --offline
Chats     --chat                  lines of text and {"prompt": "..."} are what a user says
          --system TEXT, --system-file FILE   before conversations without a system message
          --chat-template FILE|TEXT   instead of the folder's own      --chat-template-kwargs JSON
          --think, --no-think, --reasoning on|off|auto   (enable_thinking)
          --allow-special         markers such as <|im_end|> in messages are tokens (default: text)
Defaults  for lines that say nothing else
          -n, --max-tokens N      default -1: until the model ends or the context is full
          --stop TEXT  --include-stop  --stop-token-id ID  --ignore-eos  --keep-special
          --temperature F (0: greedy)  --top-k N (0: off)  --top-p F (1: off)  --min-p F (0: off)
          --repeat-penalty F  --repeat-last-n N  --presence-penalty F  --frequency-penalty F
          --logit-bias ID:B       -s, --seed N   of the run (default -1: random, printed); a line's
                                  seed follows from it and the line's number
          --n, --num-sequences N  per prompt     --logprobs N   of each token and the N likeliest
          --generation-config auto|none    take defaults from generation_config.json (flags win)
          --add-special, --no-add-special  BOS and the like before completions (default: add)
          --truncate left|right   cut prompts that exceed the context (default: such a line fails)
Memory    -c, --ctx-size N        tokens of prompt and output; default 0: the model's, cut to fit
          --max-num-seqs N  run together (default 64)   --max-num-batched-tokens N  rows of a step
          --kv-cache-dtype auto|float32|float16|bfloat16|fp8   --kv-cache-memory SIZE (2G)
          --gpu-memory-utilization F      what may be taken of a GPU's memory (default 0.9)
Device    --device auto|cpu|cuda|cuda:N    --list-devices    -t, --threads N
Console   -q  -v  --log-level L  --log-file F  --color auto|always|never, --no-color  --no-progress
          --show-config  --list-flags  --version  -h, --help   --config FILE (JSON of flags)

Ctrl-C writes what is finished and says how to go on. On the CPU a record depends on its line, the
flags and the seed alone.
Example
  bolide batch -m models/SmolLM2-135M -i prompts.txt -o answers.jsonl -n 32 --temperature 0
)";

void BatchOptions::add_to(Flags& flags) {
  GenerateOptions& d = defaults;
  d.model.add_folder_to(flags);
  for (const Flag file : {flags.value("-i,--input-file", input), flags.value("-o,--output-file", output),
                          flags.value("--error-file", error_file), flags.flag("--resume", resume), flags.flag("--overwrite", overwrite)})
    flags.not_from_environment(file);
  flags.value("--input-format", input_format).one_of({"auto", "jsonl", "text", "txt"});
  flags.flag("--unordered", unordered);
  flags.flag("--fail-fast", fail_fast);
  flags.flag("--strict", strict);
  flags.flag("--chat", text_is_chat);
  d.chat.add_to(flags);
  flags.flag("--allow-special,!--no-special-in-messages", d.allow_special);

  flags.value("-n,--max-tokens,--predict,--n-predict,--max-new-tokens", d.max_tokens);
  flags.list("-r,--stop,--reverse-prompt", d.stop);
  flags.flag("--include-stop", d.include_stop);
  flags.list("--stop-token-id", d.stop_token_ids);
  flags.flag("--ignore-eos", d.ignore_eos);
  flags.flag("--skip-special,!--keep-special", d.skip_special);
  flags.value("--temperature,--temp", d.temperature);
  flags.value("--top-k", d.top_k);
  flags.value("--top-p", d.top_p);
  flags.value("--min-p", d.min_p);
  flags.value("--repeat-penalty,--repetition-penalty", d.repeat_penalty);
  flags.value("--repeat-last-n", d.repeat_last_n);
  flags.value("--presence-penalty", d.presence_penalty);
  flags.value("--frequency-penalty", d.frequency_penalty);
  flags.list("-l,--logit-bias", d.logit_bias);
  flags.value("-s,--seed", d.seed);
  flags.value("--num-sequences", d.sequences).in_range(1, 128);
  flags.alias("--n", "--num-sequences");  // CLI11 2.4 takes a long name of one letter for the short -n
  flags.value("--logprobs", d.logprobs).in_range(0, kMaxTopLogprobs);
  flags.value("--generation-config", d.generation_config).one_of({"auto", "none", "vllm"});
  flags.flag("--add-special,!--no-add-special", d.add_special);
  flags.value("--truncate", d.truncate).one_of({"left", "right"});

  flags.value("-c,--ctx-size,--max-model-len,--max-seq-len", d.ctx_size).not_negative();
  flags.value("--max-num-seqs,--parallel", d.max_num_seqs).in_range(0, 4096);
  flags.alias("-np", "--max-num-seqs");
  flags.value("--max-num-batched-tokens", d.max_num_batched_tokens).in_range(0, 1 << 20);
  flags.value("--kv-cache-memory", d.kv_cache_memory);
  flags.value("--gpu-memory-utilization", d.gpu_memory_utilization);
  flags.value("--kv-cache-dtype", d.kv_cache_dtype);
  flags.alias("-ctk", "--kv-cache-dtype");
  flags.alias("-ctv", "--kv-cache-dtype");
  d.device.add_to(flags);
  d.console.add_to(flags);
  flags.add_config_file();
}

void BatchOptions::check() const {
  if (input.empty()) throw UsageError("no input: name a file of requests with --input-file FILE");
  if (output.empty()) throw UsageError("no output: name a file for the records with --output-file FILE ('-' = standard output)");
  if (input == "-")
    throw UsageError("--input-file - : a batch reads its input twice, which standard input does not allow. Write it to a file first");
  if (error_file == "-") throw UsageError("--error-file needs the name of a file");
  if (resume && overwrite) throw UsageError("--resume keeps what the output holds and --overwrite replaces it: give one of them");
  if (resume && output == "-") throw UsageError("--resume needs an output file: what went to standard output cannot be read again");
  GenerateOptions texts = defaults;
  texts.output_format = "json";  // log-probabilities are no matter here: records are JSON
  texts.check();
}

EngineOptions BatchOptions::engine_options() const {
  constexpr int32_t kSequences = 64;
  constexpr int64_t kPrefixCacheTokens = 4096;
  EngineOptions options = defaults.engine_options();
  // Every running sequence takes a row of a step.
  const int32_t rows = least_step_tokens(defaults.max_num_batched_tokens);
  options.max_num_seqs = defaults.max_num_seqs > 0 ? defaults.max_num_seqs : std::min(kSequences, rows);
  // A record must not depend on which other lines were under way when it was made.
  options.deterministic = true;
  // What lines have in common is used over and over; the rest would only fill memory.
  options.prefix_cache_tokens = kPrefixCacheTokens;
  return options;
}

Json BatchOptions::system_message() const {
  Json messages = defaults.chat.messages("");
  return messages.size() > 1 ? messages.front() : Json();
}

std::string BatchOptions::settings_text(const SamplingParams& p, LineFormat format) const {
  std::string text = fmt::format(
      "temperature {} top_k {} top_p {} min_p {} repetition_penalty {} repeat_last_n {} presence_penalty {} frequency_penalty {} "
      "max_tokens {} include_stop {} ignore_eos {} skip_special {} logprobs {} n {} add_special {} truncate {} ctx_size {} format {}",
      p.temperature, p.top_k, p.top_p, p.min_p, p.repetition_penalty, p.repeat_last_n, p.presence_penalty, p.frequency_penalty,
      p.max_tokens, p.include_stop, p.ignore_eos, p.skip_special, p.logprobs, defaults.sequences, defaults.add_special, defaults.truncate,
      defaults.ctx_size, format == LineFormat::text ? "text" : "jsonl");
  text += " stop " + json_text(Json(p.stop)) + fmt::format(" stop_token_ids {}", json_text(Json(p.stop_token_ids)));
  const std::string chat_template = defaults.chat.chat_template.value_or("");
  std::error_code ignored;
  text += fmt::format(" strict {} kv_cache_dtype {} allow_special {}", strict, defaults.kv_cache_dtype, defaults.allow_special);
  text +=
      fmt::format(" chat {} system {} kwargs {} template {}", text_is_chat, json_text(system_message()), json_text(defaults.chat.kwargs()),
                  std::filesystem::is_regular_file(chat_template, ignored) ? read_input(chat_template) : chat_template);
  for (const LogitBias& bias : p.logit_bias) text += fmt::format(" bias {} {}", bias.id, bias.bias);
  return text;
}

}  // namespace bolide
