#include "exec/executor.h"

#include <algorithm>
#include <array>
#include <chrono>
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

void check_copies(const std::vector<ChunkCopy>& copies, const ExecutorOptions& options) {
  const auto known = [&](int32_t chunk) { return chunk >= 0 && chunk < options.kv_chunks; };
  std::vector<int32_t> written;
  for (const ChunkCopy& copy : copies) written.push_back(copy.to);
  std::sort(written.begin(), written.end());
  BOLIDE_CHECK(std::adjacent_find(written.begin(), written.end()) == written.end());
  for (const ChunkCopy& copy : copies) {
    BOLIDE_CHECK(known(copy.from) && known(copy.to) && copy.tokens > 0 && copy.tokens <= options.chunk_tokens);
    BOLIDE_CHECK(!std::binary_search(written.begin(), written.end(), copy.from));
  }
}

// The backend trusts every index of a step: none may leave its array.
// previous_rows: logits rows of the submission before, which negative token ids refer to.
void check_batch(const Batch& batch, const ExecutorOptions& options, int32_t vocab, int32_t previous_rows) {
  check_capacity(batch, options.capacity);
  check_copies(batch.copies, options);
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
    BOLIDE_CHECK(known(batch.token_ids[t]) || (batch.token_ids[t] < 0 && -1 - batch.token_ids[t] < previous_rows));
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

// See Step::plain_sampling.
bool samples_plainly(const Batch& batch, int32_t vocab) {
  return batch.seen.empty() && batch.biases.empty() &&
         std::all_of(batch.sampling.begin(), batch.sampling.end(), [&](const SamplingSpec& s) {
           const bool filtered = (s.top_k > 0 && s.top_k < vocab) || s.top_p < 1.0f || s.min_p > 0.0f;
           return s.target < 0 && s.top_logprobs < 0 && (!(s.temperature > 0.0f) || (s.temperature >= kPlainTemperature && !filtered));
         });
}

// See Step::one_row_each.
bool has_one_row_each(const Batch& batch) {
  if (batch.sequences() != batch.tokens() || batch.logit_row_count() != batch.tokens()) return false;
  for (size_t i = 0; i < batch.logit_rows.size(); ++i)
    if (batch.logit_rows[i] != static_cast<int32_t>(i)) return false;
  return true;
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
  std::unique_ptr<Buffer> arena;
  Activations act{};
  // What steps under way do not share; step i uses the i modulo kStepsInFlight th.
  struct Place {
    std::unique_ptr<Buffer> input_block;
    StepInputs inputs;
    SampledToken* sampled = nullptr;
    std::vector<Step> steps;  // one per capacity bucket, smallest first
    std::unique_ptr<Download> download;
    int32_t rows = 0;  // logits rows of the step
  };
  std::array<Place, kStepsInFlight> places;
  std::vector<SampledToken> sampled;    // of the last finished step
  int64_t submitted = 0, finished = 0;  // steps
  int32_t rows = 0;                     // logits rows of the last submitted step
  ExecutorTimes times;

  State(Backend& b, const ModelConfig& c, const ExecutorOptions& o) : backend(b), config(c), options(o) {}

  void place_activations();
  Place& next_place() { return places[static_cast<size_t>(submitted % kStepsInFlight)]; }
  // Bytes of the host image that the batch takes.
  size_t fill_staging(const Batch& batch);
  // The step of the smallest bucket that holds the batch.
  static Step& step_for(const Batch& batch, std::vector<Step>& steps, int32_t vocab);
};

Step& Executor::State::step_for(const Batch& batch, std::vector<Step>& steps, int32_t vocab) {
  const auto fits = [&](const Step& step) {
    return batch.tokens() <= step.capacity.tokens && batch.sequences() <= step.capacity.sequences &&
           batch.logit_row_count() <= step.capacity.logit_rows;
  };
  Step& step = *std::find_if(steps.begin(), steps.end() - 1, fits);  // the last one holds every batch that was checked
  step.plain_sampling = samples_plainly(batch, vocab);
  step.one_row_each = has_one_row_each(batch);
  step.longest_sequence = 0;
  step.context_tokens = 0;
  for (const int32_t length : batch.kv_lengths) {
    step.longest_sequence = std::max(step.longest_sequence, length);
    step.context_tokens += length;
  }
  step.copies = batch.copies;
  return step;
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
  auto* sampled_rows = reinterpret_cast<SampledToken*>(base + activation.sampled);
  for (Place& place : places) {
    place.sampled = sampled_rows;
    sampled_rows += options.capacity.logit_rows;
  }
}

// Up to the end of the last array in use.
size_t Executor::State::fill_staging(const Batch& batch) {
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
  return end;
}

Executor::Executor(Backend& backend, const ModelConfig& config, const ModelWeights& weights, const ExecutorOptions& options)
    : state_(std::make_unique<State>(backend, config, options)) {
  BOLIDE_CHECK(options.capacity.tokens > 0 && options.capacity.sequences > 0 && options.capacity.logit_rows > 0);
  BOLIDE_CHECK(options.chunk_tokens > 0 && options.kv_chunks > 0 && !weights.layers.empty());
  State& s = *state_;
  const ModelDims dims = model_dims(config, options.kv_dtype);
  backend.require_support(dims, weights.layers.front().q.weight.dtype, options.kv_dtype);
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  // The workspace comes first: what is too large fails before gigabytes of weights are copied.
  auto begin = Clock::now();
  s.input = input_layout(options.capacity);
  s.activation = activation_layout(dims, options.capacity, backend.activation_dtype());
  s.staging = std::make_unique_for_overwrite<std::byte[]>(s.input.bytes);
  for (State::Place& place : s.places) place.input_block = backend.alloc(s.input.bytes);
  s.arena = backend.alloc(s.activation.bytes);
  s.kv = backend.alloc_kv(kv_cache_spec(config, options));
  backend.reserve(options.capacity, dims);
  s.times.memory = seconds_since(begin);
  begin = Clock::now();
  s.model = prepare_model(backend, config, weights);
  backend.sync();
  s.times.weights = seconds_since(begin);
  s.place_activations();
  for (size_t i = 0; i < s.places.size(); ++i) {
    State::Place& place = s.places[i];
    place.inputs = place_inputs(static_cast<std::byte*>(place.input_block->data()), s.input);
    place.download = backend.make_download(static_cast<size_t>(options.capacity.logit_rows) * sizeof(SampledToken));
    s.act.sampled = place.sampled;
    s.act.previous = s.places[(i + s.places.size() - 1) % s.places.size()].sampled;
    for (const StepCapacity& bucket : capacity_buckets(options.capacity))
      place.steps.push_back(build_step(s.config, s.model, s.act, &place.inputs, s.kv.get(), bucket));
  }
  s.sampled.reserve(static_cast<size_t>(options.capacity.logit_rows));
}

Executor::~Executor() = default;

void Executor::submit(const Batch& batch) {
  State& s = *state_;
  BOLIDE_CHECK(s.submitted - s.finished < kStepsInFlight);
  check_batch(batch, s.options, s.config.vocab, s.rows);
  // The step that used this place last has been waited for, so nothing reads what is written here.
  State::Place& place = s.next_place();
  s.backend.upload_ahead(place.input_block->data(), s.staging.get(), s.fill_staging(batch));
  s.backend.run_step(State::step_for(batch, place.steps, s.config.vocab));
  s.rows = place.rows = batch.logit_row_count();
  place.download->start(place.sampled, static_cast<size_t>(s.rows) * sizeof(SampledToken));
  ++s.submitted;
}

std::span<const SampledToken> Executor::wait() {
  State& s = *state_;
  BOLIDE_CHECK(s.finished < s.submitted);
  const State::Place& place = s.places[static_cast<size_t>(s.finished++ % kStepsInFlight)];
  const void* drawn = place.download->wait();
  s.sampled.resize(static_cast<size_t>(place.rows));
  if (place.rows > 0) std::memcpy(s.sampled.data(), drawn, bytes_of(s.sampled));
  return s.sampled;
}

bool Executor::asynchronous() const { return state_->backend.asynchronous(); }

const ExecutorOptions& Executor::options() const { return state_->options; }
const KvCacheSpec& Executor::kv_spec() const { return state_->kv->spec(); }
ExecutorTimes Executor::times() const { return state_->times; }
size_t Executor::workspace_bytes() const { return kStepsInFlight * state_->input.bytes + state_->activation.bytes; }

std::vector<float> Executor::download_logits() const {
  State& s = *state_;
  BOLIDE_CHECK(s.submitted == s.finished);
  std::vector<float> logits(static_cast<size_t>(s.rows) * static_cast<size_t>(s.config.vocab));
  if (!logits.empty()) s.backend.download(logits.data(), s.act.logits, bytes_of(logits));
  return logits;
}

StepProfile Executor::profile(const Batch& batch, int32_t repetitions) {
  using Clock = std::chrono::steady_clock;
  State& s = *state_;
  BOLIDE_CHECK(s.submitted == s.finished && repetitions > 0);
  check_batch(batch, s.options, s.config.vocab, 0);
  State::Place& place = s.next_place();
  s.backend.upload(place.input_block->data(), s.staging.get(), s.fill_staging(batch));
  const Step& step = State::step_for(batch, place.steps, s.config.vocab);
  std::vector<double> whole;
  const auto run_whole = [&](int32_t times) {
    for (int32_t i = 0; i < times; ++i) {
      const auto begin = Clock::now();
      s.backend.run_step(step);
      s.backend.sync();
      whole.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    }
  };
  constexpr int32_t kWarmUp = 3;  // a backend may run a step differently the first and the second time
  run_whole(kWarmUp);
  whole.clear();
  // One half before and one after, since a machine's speed may drift.
  run_whole((repetitions + 1) / 2);
  const std::vector<OpTime> times = s.backend.time_ops(step, repetitions);
  run_whole(repetitions / 2);
  StepProfile profile = step_profile(step, shape_of(batch), times, whole);
  profile.form = s.backend.step_form(step, repetitions);
  return profile;
}

std::vector<std::vector<float>> Executor::trace(const Batch& batch) {
  State& s = *state_;
  BOLIDE_CHECK(s.submitted == s.finished);
  check_batch(batch, s.options, s.config.vocab, 0);
  State::Place& place = s.next_place();
  s.backend.upload(place.input_block->data(), s.staging.get(), s.fill_staging(batch));
  const Step& step = place.steps.back();
  if (!batch.copies.empty()) s.backend.copy_chunks(*s.kv, batch.copies);
  std::vector<std::vector<float>> stages;
  for (const Op& op : step.ops) {
    // The base class's run: op by op, whatever the backend makes of a whole step.
    s.backend.Backend::run_step(Step{{op}, step.capacity});
    if (!std::holds_alternative<EmbedArgs>(op) && !std::holds_alternative<ProjectAddArgs>(op)) continue;
    s.backend.sync();
    std::vector<float>& x = stages.emplace_back(static_cast<size_t>(batch.tokens()) * static_cast<size_t>(s.config.hidden));
    s.backend.download(x.data(), s.act.x, bytes_of(x));
  }
  s.backend.sync();
  return stages;
}

}  // namespace bolide
