// bolide inspect: what a model is and how much memory it needs.
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "cli/command.h"
#include "cli/json.h"
#include "cli/model_facts.h"
#include "cli/streams.h"
#include "cli/values.h"
#include "core/human.h"
#include "engine/kv_plan.h"

namespace bolide {
namespace {

constexpr std::string_view kHelp = R"(Usage: bolide inspect MODEL [FLAGS]
Describes a checkpoint and plans its memory. Every header is checked; no weights are read.

Model     MODEL, -m, --model DIR|NAME    folder, or Org/Name[@REV] in the Hugging Face cache
                                       (left out: the quickstart's model); --revision REV  --offline
          --random-weights SHAPE  instead: a config.json filled with random weights
                                  --random-dtype T, --random-seed N
Plan      -c, --ctx-size N        tokens per sequence; default 0: the model's context
          --max-num-seqs N        sequences at once (default 1)
          --max-num-batched-tokens N   rows of a step (512; on a GPU 2,048)
          --kv-cache-dtype auto|float32|float16|bfloat16|fp8
          --kv-cache-memory SIZE  (2G; default: what is needed)
          --gpu-memory-utilization F   what may be taken of a GPU's memory (default 0.9)
          --device auto|cpu|cuda|cuda:N    --list-devices    -t, --threads N
Output    --output-format text|json
Console   -q  -v  --log-level L  --log-file F  --color C, --no-color  --no-progress
          --show-config  --list-flags  --version  -h, --help

Example
  bolide inspect models/SmolLM2-135M --ctx-size 4096 --max-num-seqs 8
)";

constexpr int kSchemaVersion = 1;

struct Options : DescribeOptions {
  MemoryOptions memory;
  int64_t ctx_size = 0;
  int32_t max_num_seqs = 1, max_num_batched_tokens = 0;
  EngineOptions engine_options() const;

  void add_to(Flags& flags) {
    DescribeOptions::add_to(flags);
    flags.value("-c,--ctx-size,--max-model-len,--max-seq-len", ctx_size).in_range(int64_t{0}, int64_t{1} << 31);
    flags.value("--max-num-seqs,--parallel", max_num_seqs).in_range(1, 4096);
    flags.alias("-np", "--max-num-seqs");
    flags.value("--max-num-batched-tokens", max_num_batched_tokens).in_range(0, 1 << 20);
    memory.add_to(flags);
  }
};

EngineOptions Options::engine_options() const {
  EngineOptions engine;
  engine.device = device.request;
  memory.apply(engine);
  engine.ctx_size = ctx_size;
  engine.max_num_seqs = max_num_seqs;
  // A step holds a row of every sequence.
  if (max_num_batched_tokens > 0) engine.max_num_batched_tokens = std::max(max_num_batched_tokens, max_num_seqs);
  engine.max_logprob_rows = 0;
  return engine;
}

const char* activation_name(GatedActivation activation) {
  switch (activation) {
    case GatedActivation::silu:
      return "silu";
    case GatedActivation::gelu_tanh:
      return "gelu_tanh";
    case GatedActivation::gelu_erf:
      return "gelu_erf";
  }
  return "?";
}

Json rope_json(const RopeConfig& rope) {
  Json json{{"theta", rope.theta}};
  switch (rope.scaling) {
    case RopeConfig::Scaling::none:
      json["scaling"] = nullptr;
      break;
    case RopeConfig::Scaling::linear:
      json["scaling"] = "linear";
      break;
    case RopeConfig::Scaling::llama3:
      json["scaling"] = "llama3";
      break;
  }
  if (rope.scaling != RopeConfig::Scaling::none) json["factor"] = rope.factor;
  if (rope.scaling == RopeConfig::Scaling::llama3) {
    json["low_freq_factor"] = rope.low_freq_factor;
    json["high_freq_factor"] = rope.high_freq_factor;
    json["original_context"] = rope.original_context;
  }
  return json;
}

Json plan_json(const MemoryPlan& plan) {
  return {{"device", plan.device.id},
          {"device_name", plan.device.name},
          {"ctx_size", plan.ctx_size},
          {"sequences", plan.sequences},
          {"kv_cache_dtype", dtype_name(plan.kv_dtype)},
          {"weights_bytes", plan.weights_bytes},
          {"kv_bytes", plan.kv_bytes},
          {"workspace_bytes", plan.workspace_bytes},
          {"total_bytes", plan.total()},
          {"free_bytes", plan.device.memory_free},
          {"fits", plan.fits()},
          {"reserve_bytes", kMemoryReserve},
          {"device_bytes", plan.device.memory_total},
          {"limit_bytes", plan.limit_bytes},
          {"gpu_memory_utilization", plan.utilization > 0 ? Json(plan.utilization) : Json()},
          {"load_ctx_size", plan.load_error.empty() ? Json(plan.load_ctx_size) : Json()},
          {"load_kv_tokens", plan.load_error.empty() ? Json(plan.load_kv_tokens) : Json()},
          {"load_error", plan.load_error.empty() ? Json() : Json(plan.load_error)},
          {"load_notes", plan.load_notes}};
}

Json decode_json(const std::optional<DecodeForm>& decode) {
  if (!decode) return {};
  return {{"one_kernel_up_to", decode->one_kernel_up_to}, {"reason", "the decode kernel " + decode->reason}};
}

Json facts_json(const Options& options, const ModelFacts& facts, const MemoryPlan& plan) {
  const ModelConfig& c = facts.config;
  Json kv = Json::object();
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::f8}) kv[std::string(dtype_name(type))] = c.kv_bytes_per_token(type);
  return {{"schema_version", kSchemaVersion},
          {"model", options.model.name()},
          {"source", facts.source},
          {"architecture", c.architecture},
          {"model_type", c.model_type},
          {"parameters", c.parameters()},
          {"weights_bytes", facts.weights_bytes},
          {"weights_dtype", dtype_name(facts.weights_dtype)},
          {"bytes_by_dtype", facts.dtypes},
          {"hidden_size", c.hidden},
          {"intermediate_size", c.mlp},
          {"num_layers", c.layers},
          {"num_heads", c.heads},
          {"num_kv_heads", c.kv_heads},
          {"head_dim", c.head_dim},
          {"vocab_size", c.vocab},
          {"context", c.context},
          {"tied_head", c.tied_head},
          {"activation", activation_name(c.activation)},
          {"norm_eps", json_number(c.norm_eps)},
          {"qk_norm", c.qk_norm},
          {"biases", {{"qkv", c.qkv_bias}, {"o", c.o_bias}, {"mlp", c.mlp_bias}}},
          {"rope", rope_json(c.rope)},
          {"windows", c.windows},
          {"eos_token_ids", facts.eos_ids},
          {"bos_token_id", c.bos_id ? Json(*c.bos_id) : Json()},
          {"tokenizer", facts.tokenizer ? Json(*facts.tokenizer) : Json()},
          {"kv_bytes_per_token", std::move(kv)},
          {"memory_plan", plan_json(plan)},
          {"decode", decode_json(plan.decode)},
          {"unread_tensors", facts.unread_tensors},
          {"notes", facts.notes}};
}

std::string windows_text(const ModelConfig& c) {
  const std::set<int> distinct(c.windows.begin(), c.windows.end());
  if (distinct.empty() || distinct == std::set<int>{0}) return "full attention";
  if (distinct.size() == 1) return fmt::format("sliding window of {} tokens", *distinct.begin());
  const auto full = std::count(c.windows.begin(), c.windows.end(), 0);
  return fmt::format("{} layers with full attention, {} with a window of {} tokens", full, c.layers - full, *distinct.rbegin());
}

std::string rope_text(const RopeConfig& rope) {
  std::string text = fmt::format("theta {:g}", rope.theta);
  if (rope.scaling == RopeConfig::Scaling::linear) text += fmt::format(", linear scaling by {:g}", rope.factor);
  if (rope.scaling == RopeConfig::Scaling::llama3)
    text += fmt::format(", llama3 scaling by {:g} from {} tokens", rope.factor, with_commas(rope.original_context));
  return text;
}

std::string decode_text(const DecodeForm& decode) {
  const std::string graph = fmt::format("a graph of kernels (the decode kernel {})", decode.reason);
  if (decode.one_kernel_up_to == 0) return graph;
  if (decode.one_kernel_up_to == 1) return "one kernel for a single sequence; several take " + graph;
  return fmt::format("one kernel for up to {} sequences; more take a graph of kernels", decode.one_kernel_up_to);
}

std::string bytes_and_unit(int64_t bytes) { return human_bytes(static_cast<size_t>(bytes)); }

std::string facts_text(const Options& options, const ModelFacts& facts, const MemoryPlan& plan) {
  const ModelConfig& c = facts.config;
  std::string text;
  const auto row = [&](std::string_view label, const std::string& value) { text += fmt::format("{:<14} {}\n", label, value); };
  std::vector<std::string> kv;
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::f8})
    kv.push_back(fmt::format("{} {}", bytes_and_unit(c.kv_bytes_per_token(type)), dtype_name(type)));
  std::vector<std::string> dtypes;
  for (const auto& [name, bytes] : facts.dtypes) dtypes.push_back(fmt::format("{} {}", bytes_and_unit(bytes), name));

  row("model", fmt::format("{} ({})", options.model.name(), facts.source));
  row("architecture", c.architecture);
  row("parameters", with_commas(c.parameters()));
  row("weights", fmt::format("{} ({})", bytes_and_unit(facts.weights_bytes), fmt::join(dtypes, ", ")));
  row("shape", fmt::format("{} layers, hidden {}, mlp {} ({}), {} heads, {} kv heads of {}, vocabulary {}", c.layers, c.hidden, c.mlp,
                           activation_name(c.activation), c.heads, c.kv_heads, c.head_dim, with_commas(c.vocab)));
  row("head", c.tied_head ? "tied to the embeddings" : "separate");
  row("attention", windows_text(c) + (c.qk_norm ? ", q and k normed" : "") + (c.qkv_bias ? ", q, k, v with bias" : ""));
  row("rope", rope_text(c.rope));
  row("context", with_commas(c.context) + " tokens");
  row("eos", facts.eos_ids.empty() ? "none" : fmt::format("{}", fmt::join(facts.eos_ids, ", ")));
  row("tokenizer", facts.tokenizer.value_or("none"));
  row("kv per token", fmt::format("{}", fmt::join(kv, ", ")));
  text += fmt::format("\nmemory for {} x {} tokens on {}\n", plan.sequences, with_commas(plan.ctx_size), plan.device_reason);
  row("  weights", bytes_and_unit(plan.weights_bytes));
  row("  kv cache", fmt::format("{} ({})", bytes_and_unit(plan.kv_bytes), dtype_name(plan.kv_dtype)));
  row("  workspace", bytes_and_unit(plan.workspace_bytes));
  row("  reserve", human_bytes(kMemoryReserve));
  const std::string share = plan.utilization > 0 ? fmt::format(" (--gpu-memory-utilization {:g} of {}, {} free)", plan.utilization,
                                                               human_bytes(plan.device.memory_total), human_bytes(plan.device.memory_free))
                                                 : " free";
  row("  total",
      fmt::format("{} of {}{}{}", bytes_and_unit(plan.total() + static_cast<int64_t>(kMemoryReserve)), bytes_and_unit(plan.limit_bytes),
                  share, plan.fits() ? "" : ": does not fit. A smaller --ctx-size or --max-num-seqs needs less"));
  row("  loading", plan.load_error.empty() ? fmt::format("context {} tokens, KV cache of {} tokens", with_commas(plan.load_ctx_size),
                                                         with_commas(plan.load_kv_tokens))
                                           : "refused: " + plan.load_error);
  for (const std::string& note : plan.load_notes) row("", note);
  if (plan.decode) row("decode steps", decode_text(*plan.decode));
  if (!facts.unread_tensors.empty()) row("unread", fmt::format("{}", fmt::join(facts.unread_tensors, ", ")));
  for (const std::string& note : facts.notes) row("note", note);
  return text;
}

}  // namespace

ExitCode run_inspect(const Arguments& arguments) {
  Options options;
  Flags flags("inspect", kHelp);
  options.add_to(flags);
  if (!options.start(flags, arguments)) return ExitCode::ok;
  const EngineOptions engine_options = options.engine_options();
  const ModelFacts facts = model_facts(options.model);
  const MemoryPlan plan = memory_plan(facts, engine_options);
  ResultStream out;
  out.write(options.json() ? json_text(facts_json(options, facts, plan)) + "\n" : facts_text(options, facts, plan));
  out.finish();
  return ExitCode::ok;
}

}  // namespace bolide
