#include "cli/generate_options.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "cli/values.h"
#include "text/utf8.h"

namespace bolide {

const std::string_view kGenerateHelp = R"(Usage: bolide generate -m DIR [-p TEXT] [FLAGS]
Answers a prompt, by the model's own chat template where it has one, or continues it (--raw). Standard output carries the text
(or JSON) alone; notes and statistics go to standard error.

Model     -m, --model DIR             checkpoint folder (config.json, *.safetensors, tokenizer files)
          --random-weights SHAPE      instead: a config.json filled with random weights; --random-dtype T, --random-seed N
          --dtype T                   auto, or the weights' own dtype
Prompt    -p, --prompt TEXT           '-' = standard input, as when none is given and it is no terminal
          -f, --file FILE             bytes as they are; -e, --escape reads \n, \t, \xHH, \uXXXX in prompt and stop strings
          --prompt-ids 1,2,3          token ids; '-' = standard input; needs no tokenizer
          --truncate left|right       cut a prompt that exceeds the context (default: an error)
          --print-prompt --echo       show text and ids on standard error / repeat the prompt before the output
          --raw                       plain completion; --add-special, --no-add-special: BOS as the tokenizer says (default)
Chat      --system TEXT, --system-file FILE      --think, --no-think (enable_thinking)   --hide-thinking (no <think>...</think>)
          --chat-template FILE|TEXT   instead of the folder's own; --chat-template-kwargs JSON: variables for it
          --allow-special             markers such as <|im_end|> in prompt and system message count as tokens (default: as text)
Length    -n, --max-tokens N          default -1: until the model ends or the context is full
          -c, --ctx-size N            tokens of prompt and output; default 0: the model's context, cut to what fits
          --stop TEXT                 end there (repeat for more); --include-stop keeps it in the text
          --stop-token-id ID  --ignore-eos  --keep-special   (special tokens stay in the text)
Sampling  --temperature F (0 = greedy)   --top-k N (0 = off)     --top-p F (1 = off)       --min-p F (0 = off)
          --repeat-penalty F   --repeat-last-n N   --presence-penalty F   --frequency-penalty F   --logit-bias ID:B
          -s, --seed N                default -1: random; the seed used is printed
          --n, --num-sequences N      sequences per prompt, each drawn for itself
          --generation-config auto|none    take defaults from generation_config.json, or not (flags win)
Output    --output-format text|json|jsonl  one object; with --n its "choices" hold the sequences; jsonl: an object each.
                                      text with --n: in order, a newline after each
          --logprobs N                of each token and of the N most probable ones (JSON); --prompt-logprobs
Device    --device auto|cpu|cuda|cuda:N    --list-devices    -t, --threads N
          --cpu-products float32|bfloat16   bfloat16: activations are rounded before each product, which AVX-512 BF16 speeds up
          --kv-cache-dtype auto|float32|float16|bfloat16|fp8    --kv-cache-memory SIZE (2G)
          --gpu-memory-utilization F  of a GPU's memory, what weights, workspace and KV cache may take (default 0.9)
          --max-num-batched-tokens N (rows of a step: prompts are cut into such pieces)    --max-num-seqs N
Console   -q  -v  --log-level L  --log-file F  --color auto|always|never, --no-color  --no-progress
          --show-config  --list-flags  -h, --help
          --config FILE               flags from a JSON object, {"temperature": 0.6, "stop": ["a"]}; those given here win

A reader that closes standard output early (| head -1) ends the program quietly with exit code 0.
Example
  bolide generate -m models/SmolLM2-135M -p "The capital of France is" -n 32 --temperature 0
)";

void GenerateOptions::add_to(Flags& flags) {
  model.add_to(flags);
  flags.value("--dtype", dtype);

  CLI::Option* text = flags.value("-p,--prompt", prompt);
  CLI::Option* file = flags.value("-f,--file,--prompt-file", prompt_file);
  CLI::Option* ids = flags.value("--prompt-ids", prompt_ids);
  text->excludes(file)->excludes(ids);
  file->excludes(ids);
  for (CLI::Option* option : {text, file, ids}) flags.not_from_environment(option);
  flags.flag("-e,--escape", escape);
  flags.flag("--add-special,!--no-add-special", add_special);
  flags.value("--truncate", truncate)->check(CLI::IsMember({"left", "right"}));
  flags.flag("--print-prompt", print_prompt);
  flags.flag("--echo", echo);
  flags.flag("--raw,--no-chat-template,--ignore-chat-template", raw);
  flags.alias("-no-cnv", "--raw");
  chat.add_to(flags);
  flags.flag("--allow-special,!--no-special-in-messages", allow_special);
  flags.flag("--hide-thinking", hide_thinking);

  flags.value("-n,--max-tokens,--predict,--n-predict,--max-new-tokens", max_tokens);
  flags.value("-c,--ctx-size,--max-model-len,--max-seq-len", ctx_size)->check(CLI::NonNegativeNumber);
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
  flags.value("--num-sequences", sequences)->check(CLI::Range(1, 4096));
  flags.alias("--n", "--num-sequences");  // CLI11 2.4 takes a long name of one letter for the short -n
  flags.value("--generation-config", generation_config)->check(CLI::IsMember({"auto", "none", "vllm"}));

  flags.value("--output-format", output_format)->check(CLI::IsMember({"text", "json", "jsonl"}));
  flags.value("--logprobs", logprobs)->check(CLI::Range(0, kMaxTopLogprobs));
  flags.flag("--prompt-logprobs", prompt_logprobs);

  device.add_to(flags);
  device.add_products_to(flags);
  flags.value("--kv-cache-dtype", kv_cache_dtype);
  flags.alias("-ctk", "--kv-cache-dtype");
  flags.alias("-ctv", "--kv-cache-dtype");
  flags.value("--kv-cache-memory", kv_cache_memory);
  flags.value("--gpu-memory-utilization", gpu_memory_utilization);
  flags.value("--max-num-batched-tokens", max_num_batched_tokens)->check(CLI::Range(1, 1 << 20));
  flags.value("--max-num-seqs,--parallel", max_num_seqs)->check(CLI::Range(0, 4096));
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
  if (!model.random()) require_folder(model.folder);
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
  options.max_num_seqs = std::min(sequences, max_num_seqs > 0 ? max_num_seqs : max_num_batched_tokens);
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
