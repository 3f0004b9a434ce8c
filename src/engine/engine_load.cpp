#include "engine/engine_load.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/error.h"
#include "core/human.h"
#include "engine/kv_plan.h"
#include "exec/memory_plan.h"

namespace bolide {
namespace {

constexpr int32_t kMaxSequences = 4096;
constexpr int32_t kMaxStepTokens = 65536;
constexpr int32_t kMaxChunkTokens = 1024;

void require_range(const char* flag, int64_t value, int64_t lowest, int64_t largest) {
  if (value < lowest || value > largest) {
    throw UsageError(fmt::format("{} {} is outside its range: {} to {}", flag, value, lowest, with_commas(largest)));
  }
}

void validate(const EngineOptions& options) {
  require_range("--max-num-seqs", options.max_num_seqs, 1, kMaxSequences);
  require_range("--max-num-batched-tokens", options.max_num_batched_tokens, 1, kMaxStepTokens);
  require_range("the size of a KV chunk in tokens,", options.chunk_tokens, 1, kMaxChunkTokens);
  require_range("the number of prompt log-probability rows a step,", options.max_logprob_rows, 0, kMaxStepTokens);
  if (options.ctx_size < 0) throw UsageError(fmt::format("--ctx-size {} is below 0 (0 = from the model)", options.ctx_size));
  if (options.kv_cache_bytes < 0) throw UsageError(fmt::format("--kv-cache-memory {} is below 0", options.kv_cache_bytes));
  if (options.max_num_batched_tokens < options.max_num_seqs) {
    throw UsageError(
        fmt::format("--max-num-batched-tokens {} is less than --max-num-seqs {}: every sequence takes a row of a step. Raise "
                    "the first or lower the second",
                    options.max_num_batched_tokens, options.max_num_seqs));
  }
}

// generation_config.json, config.json and the tokenizer's eos token together.
std::vector<int32_t> stop_ids(const LoadedModel& loaded, const std::filesystem::path& folder, std::vector<std::string>& notes) {
  std::vector<int32_t> ids = loaded.defaults.eos_ids;
  ids.insert(ids.end(), loaded.model.config.eos_ids.begin(), loaded.model.config.eos_ids.end());
  if (loaded.tokenizer) {
    const TokenizerConfig tokenizer_config = load_tokenizer_config(folder);
    if (tokenizer_config.eos_token) {
      if (const std::optional<int32_t> id = loaded.tokenizer->find(*tokenizer_config.eos_token)) ids.push_back(*id);
    }
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  const int32_t vocab = loaded.model.config.vocab;
  const auto outside = std::remove_if(ids.begin(), ids.end(), [vocab](int32_t id) { return id < 0 || id >= vocab; });
  if (outside != ids.end()) notes.push_back("end-of-sequence ids outside the vocabulary are ignored");
  ids.erase(outside, ids.end());
  return ids;
}

KvPlan kv_plan(const LoadedModel& loaded, const EngineOptions& options, DType kv_dtype, const StepCapacity& capacity,
               const DeviceInfo& device) {
  const ModelConfig& config = loaded.model.config;
  KvRequest request;
  request.ctx_size = options.ctx_size;
  request.model_context = config.context;
  request.max_num_seqs = options.max_num_seqs;
  request.chunk_tokens = options.chunk_tokens;
  request.kv_cache_bytes = static_cast<size_t>(options.kv_cache_bytes);
  request.bytes_per_token = static_cast<size_t>(config.kv_bytes_per_token(kv_dtype));
  request.kv_dtype = kv_dtype;
  request.free_bytes = device.memory_free;
  request.weights_bytes = static_cast<size_t>(loaded.model.weights.bytes());
  request.workspace_bytes = workspace_bytes(config, capacity, loaded.device.backend->activation_dtype());
  request.device = device.id;
  return plan_kv(request);
}

// Every token of a penalty history or chunk table lies in the KV cache, the newest one of each sequence apart, and sequences share no
// chunks.
void bound_by_cache(StepCapacity& capacity, int64_t cache_tokens, int32_t chunks) {
  const int64_t most = cache_tokens + capacity.sequences;
  capacity.seen_tokens = static_cast<int32_t>(std::min<int64_t>(capacity.seen_tokens, most));
  capacity.logit_biases =
      static_cast<int32_t>(std::min<int64_t>(capacity.logit_biases, most + int64_t{kMaxLogitBiases} * capacity.sequences));
  capacity.chunk_ids = std::min(capacity.chunk_ids, chunks);
}

}  // namespace

LoadedModel load_engine(const ModelSource& source, const EngineOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  validate(options);
  // The device is asked before the model is opened, so that its free memory does not yet lack weights drawn at random.
  LoadedModel loaded{choose_backend(options.device), {}, nullptr, {}, {}, {}, {}, {}, nullptr};
  Backend& backend = *loaded.device.backend;
  const DeviceInfo device = backend.info();
  loaded.model = open_model(source);
  const ModelConfig& config = loaded.model.config;
  EngineInfo& info = loaded.info;
  info.notes = loaded.model.notes;
  if (source.random_shape.empty()) {
    loaded.tokenizer = load_tokenizer(source.folder);
    loaded.defaults = load_generation_config(source.folder);
  }
  loaded.eos_ids = stop_ids(loaded, source.folder, info.notes);

  const DType kv_dtype = options.kv_dtype.value_or(backend.default_kv_dtype(loaded.model.weights_dtype));
  const int64_t asked_ctx = options.ctx_size > 0 ? std::min(options.ctx_size, config.context) : config.context;
  const int32_t logprob_rows = std::min(options.max_logprob_rows, options.max_num_batched_tokens);
  StepCapacity capacity =
      step_capacity(options.max_num_batched_tokens, options.max_num_seqs, logprob_rows, asked_ctx, options.chunk_tokens);
  const KvPlan plan = kv_plan(loaded, options, kv_dtype, capacity, device);
  info.notes.insert(info.notes.end(), plan.notes.begin(), plan.notes.end());
  const int64_t cache_tokens = int64_t{plan.chunks} * options.chunk_tokens;
  bound_by_cache(capacity, cache_tokens, plan.chunks);
  loaded.ctx_source = plan.ctx_source;
  loaded.limits = {options.max_num_seqs, capacity.tokens, capacity.logit_rows, options.chunk_tokens, plan.chunks};

  loaded.executor = std::make_unique<Executor>(backend, config, loaded.model.weights,
                                               ExecutorOptions{capacity, options.chunk_tokens, plan.chunks, kv_dtype});
  info.device = device;
  info.device_reason = loaded.device.reason;
  info.weights_dtype = loaded.model.weights_dtype;
  info.kv_dtype = kv_dtype;
  info.ctx_size = plan.ctx_size;
  info.weights_bytes = static_cast<size_t>(loaded.model.weights.bytes());
  info.kv_bytes = loaded.executor->kv_spec().bytes();
  info.workspace_bytes = loaded.executor->workspace_bytes();
  info.notes.push_back(
      fmt::format("KV cache: {} tokens in {}, {}", with_commas(cache_tokens), dtype_name(kv_dtype), human_bytes(info.kv_bytes)));
  info.load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return loaded;
}

}  // namespace bolide
