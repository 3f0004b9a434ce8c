// Sequences in, streamed tokens out: continuous batching with chunked prefill over one executor.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/sampling_params.h"
#include "exec/backend_choice.h"
#include "exec/open_model.h"
#include "model/model_config.h"
#include "text/tokenizer.h"

namespace bolide {

struct EngineOptions {
  BackendRequest device;
  std::optional<DType> kv_dtype;       // none = the backend's default
  int64_t ctx_size = 0;                // tokens per sequence; 0 = the model's context, cut to what fits (and said so in `notes`)
  int32_t max_num_seqs = 1;            // sequences in flight; more wait
  // T of a step: prefill is cut into chunks of at most this. 0 = what suits the device, at least max_num_seqs.
  int32_t max_num_batched_tokens = 0;
  int32_t chunk_tokens = 64;           // C
  int64_t kv_cache_bytes = 0;          // 0 = ctx_size * max_num_seqs, bounded by free memory
  // Of a GPU's total memory, what weights, workspace and KV cache may take together; the CPU's bound is what is free.
  double gpu_memory_utilization = 0.9;
  int32_t max_logprob_rows = 64;       // prompt log-probabilities: rows of logits per step
  // Launch the next step before the present one's tokens are known. None = where the device works on its own.
  std::optional<bool> run_ahead;
  // Sequences that begin alike share the KV chunks of what they have in common, and chunks are kept for later sequences while nobody
  // needs their place: at most prefix_cache_tokens tokens of them (0 = as many as the cache holds).
  bool prefix_cache = true;
  int64_t prefix_cache_tokens = 0;
  // The pieces a sequence is computed in follow from its own tokens: prompts are cut at multiples of chunk_tokens (which is lowered
  // where a step has no room for such a piece beside the other sequences' rows), output tokens are computed one by one, also those
  // that are computed again after a pre-emption. Then a sequence's results depend neither on what runs beside it, nor on pre-emption,
  // nor on the prefix cache, wherever a row's results do not depend on other sequences' rows: on the CPU bit by bit, elsewhere up to
  // float32 summation order.
  bool deterministic = false;
};

// generation_config.json, where present. Absent keys stay empty.
struct GenerationDefaults {
  std::optional<bool> do_sample;
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<int32_t> top_k;
  std::vector<int32_t> eos_ids;
};
GenerationDefaults load_generation_config(const std::filesystem::path& folder);

using SequenceId = uint64_t;

enum class FinishReason : uint8_t { none, stop, length, cancelled };
std::string_view finish_reason_name(FinishReason reason);  // "stop", "length", "cancelled"

struct TokenLogprob {
  int32_t id;
  float logprob;
};

// Called from Engine::step() on the caller's thread, in order, per sequence.
struct TokenEvent {
  SequenceId sequence;
  int32_t token_id;
  std::string_view text;      // newly safe text; may be empty
  float logprob;              // valid when logprobs were asked for
  std::span<const TokenLogprob> top;  // idem
};

struct SequenceStats {
  int64_t prompt_tokens = 0, output_tokens = 0;
  double queue_seconds = 0, prefill_seconds = 0, decode_seconds = 0;  // prefill: first scheduled to first token
  int32_t cached_tokens = 0;  // shared with earlier sequences instead of computed, when it was last scheduled anew
  int32_t preemptions = 0;  // times its KV chunks went to older sequences and it was computed again
};

struct FinishEvent {
  SequenceId sequence;
  FinishReason reason;
  std::optional<std::string> stop_match;  // stop string that matched
  std::optional<int32_t> stop_token;      // EOS or stop id that ended it (not part of the tokens)
  std::string_view text;                  // text held back until the end
  SequenceStats stats;
};

class OutputSink {
 public:
  virtual ~OutputSink() = default;
  // logprobs[i] of prompt token i given those before it; entry 0 has none. Called once before the first token when asked for.
  virtual void on_prompt_logprobs(SequenceId, std::span<const float>) {}
  virtual void on_token(const TokenEvent& event) = 0;
  virtual void on_finish(const FinishEvent& event) = 0;
};

// What Engine::load did, in this order; seconds.
struct LoadTimes {
  double device = 0;   // until the backend is ready
  double open = 0;     // headers of the weights, configuration
  double memory = 0;   // K and V, activations, scratch
  double weights = 0;  // until they are on the device; on the CPU they stay where they are mapped
  double tokenizer = 0;  // what was left to wait for: it is loaded beside the rest
};

struct EngineInfo {
  DeviceInfo device;
  std::string device_reason;
  DType weights_dtype, kv_dtype;
  int64_t ctx_size;                 // tokens per sequence
  size_t weights_bytes, kv_bytes;
  size_t workspace_bytes;           // activations, step inputs, logits and the backend's scratch
  size_t memory_limit;              // what these three and kMemoryReserve had to fit into
  double load_seconds;
  LoadTimes load;
  std::vector<std::string> notes;   // lines for the log: what was assumed, cut or ignored
  int32_t max_num_batched_tokens;   // rows of a step
  bool asynchronous;                // the device works on its own while the host prepares the next step
};

// What the steps so far took of the caller's thread. On a device that computes by itself, prepare, submit and deliver run beside its work
// where the next step is handed over ahead; elsewhere submit is the computation.
struct EngineCounters {
  int64_t steps = 0, steps_ahead = 0;  // of which handed over while another was under way
  int64_t tokens = 0;                  // rows of all steps
  double prepare_seconds = 0;          // choosing sequences, building the batch
  double submit_seconds = 0;           // until the backend has it
  double wait_seconds = 0;             // for its results
  double deliver_seconds = 0;          // tokens to their sinks
};

class Engine {
 public:
  static std::unique_ptr<Engine> load(const ModelSource& source, const EngineOptions& options);
  virtual ~Engine() = default;

  virtual const ModelConfig& config() const = 0;
  virtual const Tokenizer* tokenizer() const = 0;  // null when the folder has none
  virtual const GenerationDefaults& generation_defaults() const = 0;
  virtual const EngineInfo& info() const = 0;
  virtual EngineCounters counters() const = 0;
  // The device, for measurements between steps: its read bandwidth, its clocks.
  virtual Backend& backend() = 0;
  // generation_config.json, config.json and the tokenizer's eos token together.
  virtual std::span<const int32_t> eos_ids() const = 0;

  // Queues a sequence. Throws Error when the prompt is empty, holds ids outside the vocabulary or does not fit the context (both
  // numbers named). The sink must live until on_finish.
  virtual SequenceId add(std::vector<int32_t> prompt, const SamplingParams& params, OutputSink& sink) = 0;
  // Ends it after the step under way; on_finish comes from the next step().
  virtual void cancel(SequenceId id) = 0;
  // Runs one step; false when nothing is left to do.
  virtual bool step() = 0;
};

}  // namespace bolide
