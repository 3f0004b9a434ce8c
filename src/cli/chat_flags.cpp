#include "cli/chat_flags.h"

namespace bolide {

const std::string_view kChatHelp = R"(Usage: bolide chat -m DIR|NAME [FLAGS]
A conversation with an instruct model at a terminal; only what is new in a turn is computed.
/help lists the commands inside. Ctrl-C stops an answer and keeps it, Ctrl-D leaves.

Model     -m, --model DIR|NAME    folder, or Org/Name[@REV] in the Hugging Face cache
                                  (left out: the quickstart's model); --revision REV  --offline
          --random-weights SHAPE  instead: a config.json filled with random weights;
                                  --random-dtype T, --random-seed N
          --dtype T               auto, or the weights' own
Chat      --system TEXT, --system-file FILE       --hide-thinking   leave <think>...</think> out
          --think, --no-think, --reasoning on|off|auto              what enable_thinking is
          --chat-template FILE|TEXT               --chat-template-kwargs JSON
          --allow-special         markers such as <|im_end|> in what is said are tokens
          --stats                 tokens, rates and the use of the context after each answer
          --no-history            do not keep the lines that are typed (else they are kept in
                                  ~/.local/state/bolide/chat_history, or in XDG_STATE_HOME)
Length    -n, --max-tokens N      of an answer; default -1: until the model ends
          -c, --ctx-size N        of the conversation; default 0: the model's, cut to what fits
          --stop TEXT (repeat)  --include-stop  --stop-token-id ID
          -e, --escape            reads \n, \t, \xHH, \uXXXX in --stop
Sampling  --temperature F (0: greedy)  --top-k N (0: off)  --top-p F (1: off)  --min-p F (0: off)
          --repeat-penalty F  --repeat-last-n N  --presence-penalty F  --frequency-penalty F
          --logit-bias ID:B     -s, --seed N (default -1: random; /show prints it)
          --generation-config auto|none   take defaults from generation_config.json, or not
Device    --device auto|cpu|cuda|cuda:N   --list-devices   -t, --threads N
          --cpu-products float32|bfloat16   bfloat16 rounds activations, for AVX-512 BF16
          --kv-cache-dtype auto|float32|float16|bfloat16|fp8   --kv-cache-memory SIZE (2G)
          --gpu-memory-utilization F      what may be taken of a GPU's memory (default 0.9)
          --max-num-batched-tokens N      rows of a step (512; on a GPU 2,048)
Console   -q  -v  --log-level L  --log-file F  --color auto|always|never, --no-color  --no-progress
          --show-config  --list-flags  --version  -h, --help
          --config FILE           flags from JSON, {"temperature": 0.6}; those given here win

Standard input and output must be terminals: scripts use generate or batch.
Example
  bolide chat -m models/SmolLM2-135M-Instruct --system "Answer in one sentence."
)";

void ChatFlags::add_to(Flags& flags) {
  run.model.add_to(flags);
  flags.value("--dtype", run.dtype);
  run.chat.add_to(flags);
  flags.flag("--allow-special,!--no-special-in-messages", run.allow_special);
  flags.flag("--hide-thinking", run.hide_thinking);
  flags.flag("--stats", stats);
  flags.flag("--no-history", no_history);

  flags.value("-n,--max-tokens,--predict,--n-predict,--max-new-tokens", run.max_tokens);
  flags.value("-c,--ctx-size,--max-model-len,--max-seq-len", run.ctx_size).not_negative();
  flags.list("-r,--stop,--reverse-prompt", run.stop);
  flags.flag("--include-stop", run.include_stop);
  flags.list("--stop-token-id", run.stop_token_ids);
  flags.flag("-e,--escape", run.escape);

  flags.value("--temperature,--temp", run.temperature);
  flags.value("--top-k", run.top_k);
  flags.value("--top-p", run.top_p);
  flags.value("--min-p", run.min_p);
  flags.value("--repeat-penalty,--repetition-penalty", run.repeat_penalty);
  flags.value("--repeat-last-n", run.repeat_last_n);
  flags.value("--presence-penalty", run.presence_penalty);
  flags.value("--frequency-penalty", run.frequency_penalty);
  flags.list("-l,--logit-bias", run.logit_bias);
  flags.value("-s,--seed", run.seed);
  flags.value("--generation-config", run.generation_config).one_of({"auto", "none", "vllm"});

  run.device.add_to(flags);
  run.device.add_products_to(flags);
  flags.value("--kv-cache-dtype", run.kv_cache_dtype);
  flags.alias("-ctk", "--kv-cache-dtype");
  flags.alias("-ctv", "--kv-cache-dtype");
  flags.value("--kv-cache-memory", run.kv_cache_memory);
  flags.value("--gpu-memory-utilization", run.gpu_memory_utilization);
  flags.value("--max-num-batched-tokens", run.max_num_batched_tokens).in_range(0, 1 << 20);
  run.console.add_to(flags);
  flags.add_config_file();
}

ChatTemplate ChatFlags::chat_template() const {
  std::optional<ChatTemplate> found = run.chat_template();
  if (found) return *std::move(found);
  throw UsageError(
      "the model has no chat template (chat_template.jinja, or \"chat_template\" in tokenizer_config.json), so it knows no turns. Give one "
      "with --chat-template FILE, or let it continue a text: bolide generate");
}

std::optional<std::string> ChatFlags::system() const {
  if (!run.chat.system && !run.chat.system_file) return std::nullopt;
  return run.chat.messages("").front().at("content").get<std::string>();
}

}  // namespace bolide
