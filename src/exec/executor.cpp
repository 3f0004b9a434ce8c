#include "exec/executor.h"

#include <algorithm>
#include <cstring>
#include <variant>

#include "core/error.h"
#include "exec/decoder.h"
#include "exec/memory_plan.h"
#include "exec/step_layout.h"

namespace bolide {
namespace {

template <typename T>
size_t bytes_of(const std::vector<T>& list) {
  return list.size() * sizeof(T);
}

// A CSR offset array: `entries` + 1 offsets from 0 to `total` that never decrease.
void check_offsets(const std::vector<int32_t>& offsets, size_t entries, size_t total) {
  BOLIDE_CHECK(offsets.size() == entries + 1 && offsets.front() == 0 && static_cast<size_t>(offsets.back()) == total);
  BOLIDE_CHECK(std::is_sorted(offsets.begin(), offsets.end()));
}

void check_capacity(const Batch& batch, const StepCapacity& capacity) {
  BOLIDE_CHECK(batch.tokens() > 0 && batch.tokens() <= capacity.tokens);
  BOLIDE_CHECK(batch.sequences() <= capacity.sequences);
  BOLIDE_CHECK(batch.logit_row_count() <= capacity.logit_rows);
  BOLIDE_CHECK(batch.chunk_ids.size() <= static_cast<size_t>(capacity.chunk_ids));
  BOLIDE_CHECK(batch.seen.size() <= static_cast<size_t>(capacity.seen_tokens));
  BOLIDE_CHECK(batch.biases.size() <= static_cast<size_t>(capacity.logit_biases));
}

// The backend trusts every index of a step: none may leave its array.
void check_batch(const Batch& batch, const ExecutorOptions& options, int32_t vocab) {
  check_capacity(batch, options.capacity);
  const size_t tokens = batch.token_ids.size(), sequences = batch.kv_lengths.size(), rows = batch.logit_rows.size();
  BOLIDE_CHECK(batch.positions.size() == tokens && batch.row_sequences.size() == tokens && batch.slots.size() == tokens);
  BOLIDE_CHECK(batch.sampling.size() == rows);
  check_offsets(batch.query_offsets, sequences, tokens);
  check_offsets(batch.chunk_offsets, sequences, batch.chunk_ids.size());
  check_offsets(batch.seen_offsets, rows, batch.seen.size());
  check_offsets(batch.bias_offsets, rows, batch.biases.size());
  const auto known = [vocab](int32_t id) { return id >= 0 && id < vocab; };
  const int64_t slot_count = static_cast<int64_t>(options.kv_chunks) * options.chunk_tokens;
  for (size_t s = 0; s < sequences; ++s) {
    const int64_t chunks = batch.chunk_offsets[s + 1] - batch.chunk_offsets[s];
    BOLIDE_CHECK(batch.kv_lengths[s] > 0 && batch.kv_lengths[s] <= chunks * options.chunk_tokens);
    for (auto t = static_cast<size_t>(batch.query_offsets[s]); t < static_cast<size_t>(batch.query_offsets[s + 1]); ++t) {
      BOLIDE_CHECK(batch.row_sequences[t] == static_cast<int32_t>(s));
      BOLIDE_CHECK(batch.positions[t] >= 0 && batch.positions[t] < batch.kv_lengths[s]);
    }
  }
  for (size_t t = 0; t < tokens; ++t) {
    BOLIDE_CHECK(known(batch.token_ids[t]));
    BOLIDE_CHECK(batch.slots[t] >= 0 && batch.slots[t] < slot_count);
  }
  for (const int32_t id : batch.chunk_ids) BOLIDE_CHECK(id >= 0 && id < options.kv_chunks);
  for (size_t r = 0; r < rows; ++r) {
    BOLIDE_CHECK(batch.logit_rows[r] >= 0 && static_cast<size_t>(batch.logit_rows[r]) < tokens);
    BOLIDE_CHECK(batch.sampling[r].target < vocab && batch.sampling[r].top_logprobs <= kMaxTopLogprobs);
    BOLIDE_CHECK(batch.sampling[r].allowed_vocab >= 0 && batch.sampling[r].allowed_vocab <= vocab);
  }
  for (const SeenToken& token : batch.seen) BOLIDE_CHECK(known(token.id));
  for (const LogitBias& bias : batch.biases) BOLIDE_CHECK(known(bias.id));
}

// Capacities that steps are built for, smallest first: powers of two up to the whole. A backend's launch geometry (and captured graph)
// follows a step's capacity, so that a step of one row should not be launched for hundreds.
std::vector<StepCapacity> capacity_buckets(const StepCapacity& whole) {
  std::vector<StepCapacity> buckets;
  for (int32_t tokens = 1; tokens < whole.tokens; tokens *= 2) {
    StepCapacity bucket = whole;
    bucket.tokens = tokens;
    bucket.sequences = std::min(whole.sequences, tokens);
    bucket.logit_rows = std::min(whole.logit_rows, tokens);
    buckets.push_back(bucket);
  }
  buckets.push_back(whole);
  return buckets;
}

KvCacheSpec kv_cache_spec(const ModelConfig& config, const ExecutorOptions& options) {
  KvCacheSpec spec;
  spec.layers = config.layers;
  spec.kv_heads = config.kv_heads;
  spec.head_dim = config.head_dim;
  spec.chunk_tokens = options.chunk_tokens;
  spec.chunks = options.kv_chunks;
  spec.dtype = options.kv_dtype;
  return spec;
}

}  // namespace

struct Executor::State {
  Backend& backend;
  ModelConfig config;
  ExecutorOptions options;
  PreparedModel model;
  std::unique_ptr<KvCache> kv;
  InputLayout input;
  ActivationLayout activation;
  std::unique_ptr<std::byte[]> staging;  // host image of the step inputs
  std::unique_ptr<Buffer> input_block;
  std::unique_ptr<Buffer> arena;
  StepInputs inputs;
  Activations act{};
  std::vector<Step> steps;            // one per capacity bucket, smallest first
  std::vector<SampledToken> sampled;  // of the last finished step
  int32_t rows = 0;                   // logits rows of the last submitted step
  bool under_way = false;

  State(Backend& b, const ModelConfig& c, const ExecutorOptions& o) : backend(b), config(c), options(o) {}

  void place_activations();
  void upload(const Batch& batch);
  // The step of the smallest bucket that holds the batch.
  const Step& step_for(const Batch& batch) const;
};

const Step& Executor::State::step_for(const Batch& batch) const {
  const auto fits = [&](const Step& step) {
    return batch.tokens() <= step.capacity.tokens && batch.sequences() <= step.capacity.sequences &&
           batch.logit_row_count() <= step.capacity.logit_rows;
  };
  return *std::find_if(steps.begin(), steps.end() - 1, fits);  // the last one holds every batch that was checked
}

void Executor::State::place_activations() {
  auto* base = static_cast<std::byte*>(arena->data());
  const DType dtype = backend.activation_dtype();
  act.x = reinterpret_cast<float*>(base + activation.x);
  act.rope = reinterpret_cast<float*>(base + activation.rope);
  act.q = {base + activation.q, dtype};
  act.attn = {base + activation.attn, dtype};
  act.ff = {base + activation.ff, dtype};
  act.logits = reinterpret_cast<float*>(base + activation.logits);
  act.sampled = reinterpret_cast<SampledToken*>(base + activation.sampled);
}

// One upload of the staging block up to the end of the last array in use.
void Executor::State::upload(const Batch& batch) {
  const StepCounts counts{batch.tokens(), batch.sequences(), batch.logit_row_count()};
  size_t end = 0;
  const auto put = [&](size_t offset, const void* from, size_t bytes) {
    if (bytes == 0) return;
    std::memcpy(staging.get() + offset, from, bytes);
    end = std::max(end, offset + bytes);
  };
  put(input.counts, &counts, sizeof counts);
  put(input.token_ids, batch.token_ids.data(), bytes_of(batch.token_ids));
  put(input.positions, batch.positions.data(), bytes_of(batch.positions));
  put(input.row_sequences, batch.row_sequences.data(), bytes_of(batch.row_sequences));
  put(input.slots, batch.slots.data(), bytes_of(batch.slots));
  put(input.query_offsets, batch.query_offsets.data(), bytes_of(batch.query_offsets));
  put(input.kv_lengths, batch.kv_lengths.data(), bytes_of(batch.kv_lengths));
  put(input.chunk_offsets, batch.chunk_offsets.data(), bytes_of(batch.chunk_offsets));
  put(input.logit_rows, batch.logit_rows.data(), bytes_of(batch.logit_rows));
  put(input.sampling, batch.sampling.data(), bytes_of(batch.sampling));
  put(input.seen_offsets, batch.seen_offsets.data(), bytes_of(batch.seen_offsets));
  put(input.bias_offsets, batch.bias_offsets.data(), bytes_of(batch.bias_offsets));
  put(input.chunk_ids, batch.chunk_ids.data(), bytes_of(batch.chunk_ids));
  put(input.biases, batch.biases.data(), bytes_of(batch.biases));
  put(input.seen, batch.seen.data(), bytes_of(batch.seen));
  backend.upload(input_block->data(), staging.get(), end);
}

Executor::Executor(Backend& backend, const ModelConfig& config, const ModelWeights& weights, const ExecutorOptions& options)
    : state_(std::make_unique<State>(backend, config, options)) {
  BOLIDE_CHECK(options.capacity.tokens > 0 && options.capacity.sequences > 0 && options.capacity.logit_rows > 0);
  BOLIDE_CHECK(options.chunk_tokens > 0 && options.kv_chunks > 0 && !weights.layers.empty());
  State& s = *state_;
  const ModelDims dims = model_dims(config);
  backend.require_support(dims, weights.layers.front().q.weight.dtype, options.kv_dtype);
  // The workspace comes first: what is too large fails before gigabytes of weights are copied.
  s.input = input_layout(options.capacity);
  s.activation = activation_layout(dims, options.capacity, backend.activation_dtype());
  s.staging = std::make_unique_for_overwrite<std::byte[]>(s.input.bytes);
  s.input_block = backend.alloc(s.input.bytes);
  s.arena = backend.alloc(s.activation.bytes);
  s.kv = backend.alloc_kv(kv_cache_spec(config, options));
  s.model = prepare_model(backend, config, weights);
  backend.reserve(options.capacity, dims);
  s.inputs = place_inputs(static_cast<std::byte*>(s.input_block->data()), s.input);
  s.place_activations();
  for (const StepCapacity& bucket : capacity_buckets(options.capacity))
    s.steps.push_back(build_step(s.config, s.model, s.act, &s.inputs, s.kv.get(), bucket));
  s.sampled.reserve(static_cast<size_t>(options.capacity.logit_rows));
}

Executor::~Executor() = default;

void Executor::submit(const Batch& batch) {
  State& s = *state_;
  BOLIDE_CHECK(!s.under_way);
  check_batch(batch, s.options, s.config.vocab);
  s.upload(batch);
  s.rows = batch.logit_row_count();
  s.under_way = true;
  try {
    s.backend.run_step(s.step_for(batch));
  } catch (...) {
    s.under_way = false;
    throw;
  }
}

std::span<const SampledToken> Executor::wait() {
  State& s = *state_;
  BOLIDE_CHECK(s.under_way);
  s.under_way = false;
  s.backend.sync();
  s.sampled.resize(static_cast<size_t>(s.rows));
  if (s.rows > 0) s.backend.download(s.sampled.data(), s.act.sampled, bytes_of(s.sampled));
  return s.sampled;
}

const ExecutorOptions& Executor::options() const { return state_->options; }
const KvCacheSpec& Executor::kv_spec() const { return state_->kv->spec(); }
size_t Executor::workspace_bytes() const { return state_->input.bytes + state_->activation.bytes; }

std::vector<float> Executor::download_logits() const {
  State& s = *state_;
  BOLIDE_CHECK(!s.under_way);
  std::vector<float> logits(static_cast<size_t>(s.rows) * static_cast<size_t>(s.config.vocab));
  if (!logits.empty()) s.backend.download(logits.data(), s.act.logits, bytes_of(logits));
  return logits;
}

std::vector<std::vector<float>> Executor::trace(const Batch& batch) {
  State& s = *state_;
  BOLIDE_CHECK(!s.under_way);
  check_batch(batch, s.options, s.config.vocab);
  s.upload(batch);
  s.rows = batch.logit_row_count();
  std::vector<std::vector<float>> stages;
  for (const Op& op : s.steps.back().ops) {
    // The base class's run: op by op, whatever the backend makes of a whole step.
    s.backend.Backend::run_step(Step{{op}, s.steps.back().capacity});
    if (!std::holds_alternative<EmbedArgs>(op) && !std::holds_alternative<ProjectAddArgs>(op)) continue;
    s.backend.sync();
    std::vector<float>& x = stages.emplace_back(static_cast<size_t>(batch.tokens()) * static_cast<size_t>(s.config.hidden));
    s.backend.download(x.data(), s.act.x, bytes_of(x));
  }
  s.backend.sync();
  return stages;
}

}  // namespace bolide
