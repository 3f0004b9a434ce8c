#include "cli/generate_options.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "cli/values.h"
#include "text/utf8.h"

namespace bolide {

const std::string_view kGenerateHelp = R"(Usage: bolide generate -m DIR|NAME [-p TEXT] [FLAGS]
Answers a prompt by the model's own chat template where it has one, or continues it (--raw).
Standard output carries the text (or JSON) alone; notes and statistics go to standard error.

Model     -m, --model DIR|NAME    folder, or Org/Name[@REV] in the Hugging Face cache
                                  (left out: the quickstart's model); --revision REV  --offline
          --random-weights SHAPE  instead: a config.json filled with random weights;
                                  --random-dtype T, --random-seed N
          --dtype T               auto, or the weights' own
Prompt    -p, --prompt TEXT       '-' = standard input, as when none is given and it is no terminal
          -f, --file FILE         bytes as they are
          -e, --escape            reads \n, \t, \xHH, \uXXXX in the prompt and in --stop
          --prompt-ids 1,2,3      token ids; '-' = standard input; needs no tokenizer
          --truncate left|right   cut a prompt that exceeds the context (default: an error)
          --print-prompt          text and ids on standard error    --echo   on standard output
          --raw                   plain completion; --add-special, --no-add-special: with BOS or not
Chat      --system TEXT, --system-file FILE       --hide-thinking   leave <think>...</think> out
          --think, --no-think, --reasoning on|off|auto              what enable_thinking is
          --chat-template FILE|TEXT               --chat-template-kwargs JSON
          --allow-special         markers such as <|im_end|> in prompt and system message are tokens
Length    -n, --max-tokens N      default -1: until the model ends or the context is full
          -c, --ctx-size N        of prompt and output; default 0: the model's, cut to what fits
          --stop TEXT (repeat)  --include-stop  --stop-token-id ID  --ignore-eos
          --keep-special          special tokens stay in the text
Sampling  --temperature F (0: greedy)  --top-k N (0: off)  --top-p F (1: off)  --min-p F (0: off)
          --repeat-penalty F  --repeat-last-n N  --presence-penalty F  --frequency-penalty F
          --logit-bias ID:B     -s, --seed N (default -1: random, and printed)
          --n, --num-sequences N  sequences per prompt, each drawn for itself
          --generation-config auto|none   take defaults from generation_config.json, or not
Output    --output-format text|json|jsonl   one object, of --n its "choices"; jsonl: each a line
          --logprobs N            of each token and of the N most probable ones; --prompt-logprobs
          --dry-run               check everything, say what memory it takes, and stop
Device    --device auto|cpu|cuda|cuda:N   --list-devices   -t, --threads N
          --cpu-products float32|bfloat16   bfloat16 rounds activations, for AVX-512 BF16
          --kv-cache-dtype auto|float32|float16|bfloat16|fp8   --kv-cache-memory SIZE (2G)
          --gpu-memory-utilization F      what may be taken of a GPU's memory (default 0.9)
          --max-num-batched-tokens N (rows of a step)      --max-num-seqs N
Console   -q  -v  --log-level L  --log-file F  --color auto|always|never, --no-color  --no-progress
          --show-config  --list-flags  --version  -h, --help
          --config FILE           flags from JSON, {"temperature": 0.6}; those given here win

Example
  bolide generate -m models/SmolLM2-135M -p "The capital of France is" -n 32 --temperature 0
)";

void GenerateOptions::add_to(Flags& flags) {
  model.add_to(flags);
  flags.value("--dtype", dtype);

  flags.only_one_of(
      {flags.value("-p,--prompt", prompt), flags.value("-f,--file,--prompt-file", prompt_file), flags.value("--prompt-ids", prompt_ids)});
  flags.flag("-e,--escape", escape);
  flags.flag("--add-special,!--no-add-special", add_special);
  flags.value("--truncate", truncate).one_of({"left", "right"});
  flags.flag("--print-prompt", print_prompt);
  flags.flag("--echo", echo);
  flags.not_from_environment(flags.flag("--dry-run", dry_run));
  flags.flag("--raw,--no-chat-template,--ignore-chat-template", raw);
  flags.alias("-no-cnv", "--raw");
  chat.add_to(flags);
  flags.flag("--allow-special,!--no-special-in-messages", allow_special);
  flags.flag("--hide-thinking", hide_thinking);

  flags.value("-n,--max-tokens,--predict,--n-predict,--max-new-tokens", max_tokens);
  flags.value("-c,--ctx-size,--max-model-len,--max-seq-len", ctx_size).not_negative();
  flags.list("-r,--stop,--reverse-prompt", stop);
  flags.flag("--include-stop", include_stop);
  flags.list("--stop-token-id", stop_token_ids);
  flags.flag("--ignore-eos", ignore_eos);
  flags.flag("--skip-special,!--keep-special", skip_special);

  flags.value("--temperature,--temp", temperature);
  flags.value("--top-k", top_k);
  flags.value("--top-p", top_p);
  flags.value("--min-p", min_p);
  flags.value("--repeat-penalty,--repetition-penalty", repeat_penalty);
  flags.value("--repeat-last-n", repeat_last_n);
  flags.value("--presence-penalty", presence_penalty);
  flags.value("--frequency-penalty", frequency_penalty);
  flags.list("-l,--logit-bias", logit_bias);
  flags.value("-s,--seed", seed);
  flags.value("--num-sequences", sequences).in_range(1, 4096);
  flags.alias("--n", "--num-sequences");  // CLI11 2.4 takes a long name of one letter for the short -n
  flags.value("--generation-config", generation_config).one_of({"auto", "none", "vllm"});

  flags.value("--output-format", output_format).one_of({"text", "json", "jsonl"});
  flags.value("--logprobs", logprobs).in_range(0, kMaxTopLogprobs);
  flags.flag("--prompt-logprobs", prompt_logprobs);

  device.add_to(flags);
  device.add_products_to(flags);
  flags.value("--kv-cache-dtype", kv_cache_dtype);
  flags.alias("-ctk", "--kv-cache-dtype");
  flags.alias("-ctv", "--kv-cache-dtype");
  flags.value("--kv-cache-memory", kv_cache_memory);
  flags.value("--gpu-memory-utilization", gpu_memory_utilization);
  flags.value("--max-num-batched-tokens", max_num_batched_tokens).in_range(0, 1 << 20);
  flags.value("--max-num-seqs,--parallel", max_num_seqs).in_range(0, 4096);
  flags.alias("-np", "--max-num-seqs");
  console.add_to(flags);
  flags.add_config_file();
}

void GenerateOptions::check() const {
  if (max_tokens < -1) throw UsageError(fmt::format("--max-tokens {} is neither a number of tokens nor -1 (no limit)", max_tokens));
  for (const std::string& text : stop) {
    if (const auto offset = first_invalid_utf8(escape ? unescape(text) : text))
      throw UsageError(fmt::format("a --stop text is not valid UTF-8 at byte {}", *offset));
  }
  if (output_format == "text" && (logprobs || prompt_logprobs))
    throw UsageError("log-probabilities are printed in JSON only: add --output-format json");
}

std::optional<ChatTemplate> GenerateOptions::chat_template() const {
  const auto unusable = [&](const std::string& why) {
    if (const auto flag = chat.given()) throw UsageError(fmt::format("{} needs a chat template, and {}", *flag, why));
  };
  if (raw || prompt_ids) {
    unusable(raw ? "--raw goes without one" : "--prompt-ids goes without one");
    return std::nullopt;
  }
  try {
    if (auto found = chat.load(model.folder)) return found;
  } catch (const ModelError& error) {
    throw ModelError(fmt::format("{}. Give another one with --chat-template FILE, or leave it out with --raw", error.what()));
  }
  unusable("the model has none (chat_template.jinja, or \"chat_template\" in tokenizer_config.json). Give one with --chat-template FILE");
  return std::nullopt;
}

EngineOptions GenerateOptions::engine_options() const {
  EngineOptions options;
  options.device = device.backend_request();
  options.kv_dtype = parse_dtype_flag("--kv-cache-dtype", kv_cache_dtype);
  options.ctx_size = ctx_size;
  // Every running sequence takes a row of a step; more sequences than rows wait for their turn.
  options.max_num_seqs = std::min(sequences, max_num_seqs > 0 ? max_num_seqs : least_step_tokens(max_num_batched_tokens));
  options.max_num_batched_tokens = max_num_batched_tokens;
  options.kv_cache_bytes = kv_cache_memory.empty() ? 0 : parse_bytes("--kv-cache-memory", kv_cache_memory);
  options.gpu_memory_utilization = gpu_memory_utilization;
  if (!prompt_logprobs) options.max_logprob_rows = 0;
  return options;
}

SamplingParams GenerateOptions::sampling(const GenerationDefaults& defaults) const {
  SamplingParams params;
  if (generation_config == "auto") {
    params.temperature = defaults.do_sample == false ? 0.0f : defaults.temperature.value_or(params.temperature);
    params.top_k = defaults.top_k.value_or(params.top_k);
    params.top_p = defaults.top_p.value_or(params.top_p);
    params.min_p = defaults.min_p.value_or(params.min_p);
    params.repetition_penalty = defaults.repetition_penalty.value_or(params.repetition_penalty);
  }
  params.temperature = temperature.value_or(params.temperature);
  params.top_k = top_k.value_or(params.top_k);
  if (params.top_k == -1) params.top_k = 0;
  params.top_p = top_p.value_or(params.top_p);
  params.min_p = min_p.value_or(params.min_p);
  params.repetition_penalty = repeat_penalty.value_or(params.repetition_penalty);
  params.repeat_last_n = repeat_last_n.value_or(params.repeat_last_n);
  params.presence_penalty = presence_penalty.value_or(params.presence_penalty);
  params.frequency_penalty = frequency_penalty.value_or(params.frequency_penalty);
  for (const std::string& text : logit_bias) {
    for (const LogitBias& bias : parse_logit_biases("--logit-bias", text)) params.logit_bias.push_back(bias);
  }
  params.seed = parse_seed(seed);

  if (max_tokens >= 0) params.max_tokens = max_tokens;
  for (const std::string& text : stop) params.stop.push_back(escape ? unescape(text) : text);
  params.include_stop = include_stop;
  for (const std::string& text : stop_token_ids) {
    for (const int32_t id : parse_ids("--stop-token-id", text)) params.stop_token_ids.push_back(id);
  }
  params.ignore_eos = ignore_eos;
  params.skip_special = skip_special;
  params.logprobs = logprobs.value_or(-1);
  params.prompt_logprobs = prompt_logprobs;
  return params;
}

Flags::Decided GenerateOptions::decided_by_model() {
  Flags::Decided decided;
  if (generation_config != "auto" || model.random()) return decided;
  GenerationDefaults defaults;
  try {
    model.resolve();
    defaults = load_generation_config(model.folder);
  } catch (const Error&) {
    return decided;  // a run would say what is wrong
  }
  const auto add = [&](const char* flag, const auto& value) {
    if (value) decided[flag] = {fmt::format("{:g}", static_cast<double>(*value)), "generation_config.json"};
  };
  add("temperature", defaults.do_sample == false ? std::optional(0.0f) : defaults.temperature);
  add("top-k", defaults.top_k);
  add("top-p", defaults.top_p);
  add("min-p", defaults.min_p);
  add("repeat-penalty", defaults.repetition_penalty);
  return decided;
}

std::string GenerateOptions::decided_by(const GenerationDefaults& defaults) const {
  if (generation_config != "auto") return "";
  std::vector<std::string> parts;
  const auto add = [&](const char* name, bool flag_given, const auto& value) {
    if (!flag_given && value) parts.push_back(fmt::format("{} {:g}", name, static_cast<double>(*value)));
  };
  if (defaults.do_sample == false && !temperature)
    parts.emplace_back("do_sample false (greedy)");
  else
    add("temperature", temperature.has_value(), defaults.temperature);
  add("top_k", top_k.has_value(), defaults.top_k);
  add("top_p", top_p.has_value(), defaults.top_p);
  add("min_p", min_p.has_value(), defaults.min_p);
  add("repetition_penalty", repeat_penalty.has_value(), defaults.repetition_penalty);
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace bolide
