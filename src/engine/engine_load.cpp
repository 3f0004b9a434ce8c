#include "engine/engine_load.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <utility>

#include "core/error.h"
#include "core/human.h"
#include "engine/kv_plan.h"
#include "exec/memory_plan.h"
#include "models/architecture.h"

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

// Bounds what grows with context times sequences by what the cache can hold. Every token of a penalty history or chunk table lies in
// the cache, the newest one of each sequence apart. Sequences that share chunks may go beyond that: they get twice as much, and what
// still exceeds it waits for a later step. A prefill in whole pieces brings its table once for each of them, which the capacity counts
// already.
void bound_by_cache(StepCapacity& capacity, const EngineOptions& options, int64_t ctx_size, int32_t chunk_tokens, int32_t chunks) {
  const int64_t times = options.prefix_cache ? 2 : 1;
  const int64_t pieces = whole_pieces_of(options, chunk_tokens);
  const int64_t history = times * chunks * chunk_tokens + capacity.sequences;
  capacity.seen_tokens = static_cast<int32_t>(std::min<int64_t>(capacity.seen_tokens, history));
  capacity.logit_biases =
      static_cast<int32_t>(std::min<int64_t>(capacity.logit_biases, history + int64_t{kMaxLogitBiases} * capacity.sequences));
  const int64_t tables = times * chunks + pieces * chunks_for(ctx_size, 1, chunk_tokens);
  capacity.chunk_ids = static_cast<int32_t>(std::min<int64_t>(capacity.chunk_ids, tables));
}

SchedulerLimits scheduler_limits(const EngineOptions& options, const StepCapacity& capacity, int32_t chunk_tokens, int32_t chunks) {
  SchedulerLimits limits;
  limits.sequences = options.max_num_seqs;
  limits.tokens = capacity.tokens;
  limits.logit_rows = capacity.logit_rows;
  limits.chunk_tokens = chunk_tokens;
  limits.kv_chunks = chunks;
  limits.share_prefixes = options.prefix_cache;
  const int64_t cached = options.prefix_cache_tokens > 0 ? options.prefix_cache_tokens / chunk_tokens : chunks;
  limits.cached_chunks = static_cast<int32_t>(std::min<int64_t>(cached, chunks));
  limits.whole_pieces = options.deterministic;
  limits.chunk_ids = capacity.chunk_ids;
  limits.history_tokens = capacity.seen_tokens;
  return limits;
}

// The plan of a model with random weights, for its refusals: they come before the weights are drawn.
void require_room(const ModelSource& source, const EngineOptions& options, const Backend& backend, const DeviceInfo& device) {
  const ModelConfig config = load_model_config(source.random_shape);
  const size_t bytes = static_cast<size_t>(config.parameters()) * dtype_size(source.random_dtype);
  plan_kv(memory_needs(config, bytes, source.random_dtype, options, backend, device).request);
}

// What the executor turned out to be.
void describe(LoadedModel& loaded, const StepCapacity& capacity) {
  EngineInfo& info = loaded.info;
  const Executor& executor = *loaded.executor;
  info.device_reason = loaded.device.reason;
  info.weights_dtype = loaded.model.weights_dtype;
  info.kv_dtype = executor.kv_spec().dtype;
  info.kv_bytes = executor.kv_spec().bytes();
  const ModelDims dims = model_dims(loaded.model.config, executor.kv_spec().dtype);
  info.workspace_bytes = executor.workspace_bytes() + loaded.device.backend->scratch_bytes(capacity, dims);
  info.load.memory = executor.times().memory;
  info.load.weights = executor.times().weights;
  const int64_t tokens = int64_t{executor.kv_spec().chunks} * executor.kv_spec().chunk_tokens;
  info.notes.push_back(
      fmt::format("KV cache: {} tokens in {}, {}", with_commas(tokens), dtype_name(info.kv_dtype), human_bytes(info.kv_bytes)));
}

}  // namespace

void validate_options(const EngineOptions& options) {
  require_range("--max-num-seqs", options.max_num_seqs, 1, kMaxSequences);
  require_range("--max-num-batched-tokens", options.max_num_batched_tokens, 0, kMaxStepTokens);
  require_range("the size of a KV chunk in tokens,", options.chunk_tokens, 1, kMaxChunkTokens);
  require_range("the number of prompt log-probability rows a step,", options.max_logprob_rows, 0, kMaxStepTokens);
  if (options.prefix_cache_tokens < 0) throw UsageError("the number of tokens that the prefix cache keeps is below 0");
  if (options.ctx_size < 0) throw UsageError(fmt::format("--ctx-size {} is below 0 (0 = from the model)", options.ctx_size));
  if (!(options.gpu_memory_utilization > 0 && options.gpu_memory_utilization <= 1)) {
    throw UsageError(fmt::format("--gpu-memory-utilization {:g} is outside its range: above 0, at most 1", options.gpu_memory_utilization));
  }
  if (options.kv_cache_bytes < 0) throw UsageError(fmt::format("--kv-cache-memory {} is below 0", options.kv_cache_bytes));
  if (options.max_num_batched_tokens > 0 && options.max_num_batched_tokens < options.max_num_seqs) {
    throw UsageError(
        fmt::format("--max-num-batched-tokens {} is less than --max-num-seqs {}: every sequence takes a row of a step. Raise "
                    "the first or lower the second",
                    options.max_num_batched_tokens, options.max_num_seqs));
  }
}

EngineOptions with_step_tokens(EngineOptions options, const Backend& backend) {
  int32_t& tokens = options.max_num_batched_tokens;
  if (tokens == 0) tokens = std::max(backend.default_step_tokens(), options.max_num_seqs);
  return options;
}

LoadedModel load_engine(const ModelSource& source, const EngineOptions& asked, ChosenBackend given) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  auto mark = begin;
  const auto lap = [&] {
    const auto now = Clock::now();
    return std::chrono::duration<double>(now - std::exchange(mark, now)).count();
  };
  validate_options(asked);
  // A tokenizer file of some megabytes takes as long to read as a device to start: both at once.
  std::future<std::unique_ptr<Tokenizer>> tokenizer;
  const bool checkpoint = source.random_shape.empty();
  if (checkpoint) tokenizer = std::async(std::launch::async, [&source] { return load_tokenizer(source.folder); });
  // The device is asked before the model is opened, so that its free memory does not yet lack weights drawn at random.
  if (!given.backend) given = choose_backend(asked.device);
  LoadedModel loaded{std::move(given), {}, nullptr, {}, {}, {}, {}, {}, nullptr};
  Backend& backend = *loaded.device.backend;
  const EngineOptions options = with_step_tokens(asked, backend);
  const DeviceInfo device = backend.info();
  loaded.info.load.device = lap();
  if (!checkpoint) require_room(source, options, backend, device);
  loaded.model = open_model(source);
  const ModelConfig& config = loaded.model.config;
  EngineInfo& info = loaded.info;
  info.notes = loaded.model.notes;
  if (checkpoint) loaded.defaults = load_generation_config(source.folder);
  info.load.open = lap();

  info.weights_bytes = static_cast<size_t>(loaded.model.weights.bytes());
  const MemoryNeeds needs = memory_needs(config, info.weights_bytes, loaded.model.weights_dtype, options, backend, device);
  const KvPlan plan = plan_kv(needs.request);
  const int32_t chunk_tokens = piece_tokens(options);
  const int64_t asked_ctx = options.ctx_size > 0 ? std::min(options.ctx_size, config.context) : config.context;
  StepCapacity capacity = needs.capacity;
  info.notes.insert(info.notes.end(), plan.notes.begin(), plan.notes.end());
  bound_by_cache(capacity, options, asked_ctx, chunk_tokens, plan.chunks);
  loaded.ctx_source = plan.ctx_source;
  loaded.limits = scheduler_limits(options, capacity, chunk_tokens, plan.chunks);

  loaded.executor = std::make_unique<Executor>(backend, config, loaded.model.weights,
                                               ExecutorOptions{capacity, chunk_tokens, plan.chunks, needs.kv_dtype});
  lap();  // the executor knows its own times
  if (checkpoint) loaded.tokenizer = tokenizer.get();
  loaded.eos_ids = stop_ids(loaded, source.folder, info.notes);
  info.load.tokenizer = lap();
  info.device = device;
  info.ctx_size = plan.ctx_size;
  info.max_num_batched_tokens = options.max_num_batched_tokens;
  info.asynchronous = loaded.executor->asynchronous();
  loaded.run_ahead = options.run_ahead.value_or(info.asynchronous);
  info.memory_limit = needs.request.limit_bytes;
  describe(loaded, capacity);
  info.load_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return loaded;
}

}  // namespace bolide
