#include "cli/model_facts.h"

#include <algorithm>
#include <filesystem>

#include "engine/engine_load.h"
#include "engine/kv_plan.h"
#include "exec/memory_plan.h"
#include "exec/open_model.h"
#include "models/architecture.h"
#include "text/tokenizer.h"

namespace bolide {
namespace {

void count_dtypes(const OpenModel& model, std::map<std::string, int64_t>& dtypes) {
  const auto count = [&](const TensorView& view) {
    if (view) dtypes[std::string(dtype_name(view.dtype))] += static_cast<int64_t>(view.bytes());
  };
  const ModelWeights& weights = model.weights;
  count(weights.embed);
  count(weights.final_norm);
  if (weights.head.data != weights.embed.data) count(weights.head);
  for (const LayerWeights& layer : weights.layers) {
    for (const TensorView* view : {&layer.input_norm, &layer.q_norm, &layer.k_norm, &layer.post_norm}) count(*view);
    for (const Linear* linear : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) {
      count(linear->weight);
      count(linear->bias);
    }
  }
}

std::optional<DType> matrix_dtype(const ModelWeights& weights) {
  const DType dtype = weights.embed.dtype;
  bool alike = weights.head.dtype == dtype;
  for (const LayerWeights& layer : weights.layers)
    for (const Linear* linear : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down})
      alike = alike && linear->weight.dtype == dtype;
  return alike ? std::optional(dtype) : std::nullopt;
}

void add_eos(std::vector<int32_t>& ids, int32_t id) {
  if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
}

// A tokenizer or generation_config.json that cannot be used is a note here, since the rest of the model can still be described.
void read_text_side(const std::string& folder, ModelFacts& facts) {
  try {
    for (const int32_t id : load_generation_config(folder).eos_ids) add_eos(facts.eos_ids, id);
  } catch (const Error& error) {
    facts.notes.emplace_back(error.what());
  }
  try {
    const auto tokenizer = load_tokenizer(folder);
    if (!tokenizer) return;
    facts.tokenizer = tokenizer->description();
    const TokenizerConfig config = load_tokenizer_config(folder);
    const auto eos = config.eos_token ? tokenizer->find(*config.eos_token) : std::nullopt;
    if (eos) add_eos(facts.eos_ids, *eos);
  } catch (const Error& error) {
    facts.notes.emplace_back(error.what());
  }
}

ModelFacts random_facts(const ModelSource& source) {
  ModelFacts facts;
  facts.config = load_model_config(source.random_shape);
  facts.source = fmt::format("random weights, seed {}", source.random_seed);
  facts.weights_dtype = source.random_dtype;
  facts.matrix_dtype = source.random_dtype;
  facts.weights_bytes = facts.config.parameters() * static_cast<int64_t>(dtype_size(source.random_dtype));
  facts.dtypes[std::string(dtype_name(source.random_dtype))] = facts.weights_bytes;
  for (const int32_t id : facts.config.eos_ids) add_eos(facts.eos_ids, id);
  return facts;
}

}  // namespace

void DescribeOptions::add_to(Flags& flags) {
  flags.positional("model-folder", positional);
  model.add_to(flags);
  device.add_to(flags);
  console.add_to(flags);
  flags.value("--output-format", output_format).one_of({"text", "json"});
}

bool DescribeOptions::start(Flags& flags, const Arguments& arguments) {
  if (!flags.parse(arguments)) return false;
  console.start();
  if (device.listed()) return false;
  model.take_positional(positional, flags);
  model.resolve();
  return true;
}

ModelFacts model_facts(const ModelOptions& options) {
  const ModelSource source = options.source();
  if (options.random()) return random_facts(source);
  const OpenModel model = open_model(source);
  ModelFacts facts;
  facts.config = model.config;
  facts.source = model.source->description();
  facts.weights_dtype = model.weights_dtype;
  facts.matrix_dtype = matrix_dtype(model.weights);
  facts.weights_bytes = model.weights.bytes();
  count_dtypes(model, facts.dtypes);
  for (const int32_t id : model.config.eos_ids) add_eos(facts.eos_ids, id);
  facts.unread_tensors = model.source->unread();
  facts.notes = model.notes;
  read_text_side(options.folder, facts);
  return facts;
}

double kv_bytes(const ModelConfig& config, DType kv, double length) {
  const double row = 2.0 * config.kv_heads * config.head_dim * static_cast<double>(dtype_size(kv));  // K and V of a token in one layer
  double tokens = 0;
  for (int layer = 0; layer < config.layers; ++layer) {
    const int window = static_cast<size_t>(layer) < config.windows.size() ? config.windows[static_cast<size_t>(layer)] : 0;
    tokens += window > 0 ? std::min(length, static_cast<double>(window)) : length;
  }
  return row * tokens;
}

double decode_bytes(const ModelConfig& config, int64_t weights_bytes, DType weights, DType kv, double length, int32_t sequences) {
  double bytes = static_cast<double>(weights_bytes);
  if (!config.tied_head) bytes -= static_cast<double>(config.vocab - sequences) * config.hidden * static_cast<double>(dtype_size(weights));
  return bytes + sequences * kv_bytes(config, kv, length);
}

bool MemoryPlan::fits() const { return total() + static_cast<int64_t>(kMemoryReserve) <= limit_bytes; }

MemoryPlan memory_plan(const ModelFacts& facts, const EngineOptions& asked) {
  validate_options(asked);
  const ChosenBackend chosen = choose_backend(asked.device);
  const EngineOptions options = with_step_tokens(asked, *chosen.backend);
  MemoryPlan plan;
  plan.device = chosen.backend->info();
  plan.device_reason = chosen.reason;
  plan.ctx_size = options.ctx_size > 0 ? options.ctx_size : facts.config.context;
  plan.sequences = options.max_num_seqs;
  plan.weights_bytes = facts.weights_bytes;
  const MemoryNeeds needs =
      memory_needs(facts.config, static_cast<size_t>(facts.weights_bytes), facts.weights_dtype, options, *chosen.backend, plan.device);
  plan.kv_dtype = needs.kv_dtype;
  const int64_t tokens = static_cast<int64_t>(chunks_for(plan.ctx_size, plan.sequences, options.chunk_tokens)) * options.chunk_tokens;
  plan.kv_bytes = tokens * facts.config.kv_bytes_per_token(plan.kv_dtype);
  plan.workspace_bytes = static_cast<int64_t>(needs.request.workspace_bytes);
  plan.limit_bytes = static_cast<int64_t>(needs.request.limit_bytes);
  plan.utilization = needs.request.utilization;
  try {
    const KvPlan kv = plan_kv(needs.request);
    plan.load_ctx_size = kv.ctx_size;
    plan.load_kv_tokens = int64_t{kv.chunks} * options.chunk_tokens;
    plan.load_notes = kv.notes;
    plan.decode = chosen.backend->decode_form(
        {model_dims(facts.config, plan.kv_dtype), facts.matrix_dtype, plan.kv_dtype, needs.request.chunk_tokens, kv.chunks, kv.ctx_size});
  } catch (const MemoryError& error) {
    plan.load_error = error.what();
  }
  return plan;
}

}  // namespace bolide
