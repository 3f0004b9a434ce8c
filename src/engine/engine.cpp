#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <map>
#include <utility>

#include "core/error.h"
#include "core/human.h"
#include "engine/engine_load.h"

namespace bolide {
namespace {

// Adds the time until its end to a sum, and takes it from the one that runs around it.
class Lap {
 public:
  explicit Lap(double& sum, double* around = nullptr) : sum_(sum), around_(around) {}
  ~Lap() {
    const double seconds = std::chrono::duration<double>(Sequence::Clock::now() - begin_).count();
    sum_ += seconds;
    if (around_) *around_ -= seconds;
  }
  Lap(const Lap&) = delete;
  Lap& operator=(const Lap&) = delete;

 private:
  double& sum_;
  double* around_;
  Sequence::Clock::time_point begin_ = Sequence::Clock::now();
};

class EngineImpl final : public Engine {
 public:
  explicit EngineImpl(LoadedModel loaded) : loaded_(std::move(loaded)), scheduler_(loaded_.limits) {
    const int32_t vocab = loaded_.model.config.vocab;
    vocab_with_text_ = loaded_.tokenizer ? std::min(vocab, loaded_.tokenizer->vocab_size()) : vocab;
  }

  const ModelConfig& config() const override { return loaded_.model.config; }
  const Tokenizer* tokenizer() const override { return loaded_.tokenizer.get(); }
  const GenerationDefaults& generation_defaults() const override { return loaded_.defaults; }
  const EngineInfo& info() const override { return loaded_.info; }
  EngineCounters counters() const override { return counters_; }
  Backend& backend() override { return *loaded_.device.backend; }
  std::span<const int32_t> eos_ids() const override { return loaded_.eos_ids; }

  SequenceId add(std::vector<int32_t> prompt, const SamplingParams& params, OutputSink& sink) override;
  void cancel(SequenceId id) override;
  bool step() override;

 private:
  void validate_prompt(std::span<const int32_t> prompt, const SamplingParams& params) const;
  bool is_stop(const Sequence& sequence, int32_t id) const;
  void add_stop_ids(const Sequence& sequence, SamplingSpec& spec) const;
  void end_finished();
  // A step that the executor has under way.
  struct Flight {
    std::vector<ScheduledWork> work;
    std::vector<SequenceId> ids;  // of the work's sequences, which may be gone when it lands
    std::vector<size_t> rows;     // logits rows of each
  };
  void launch(Flight& flight, const std::vector<ScheduledWork>& work);
  void land();
  void build_batch(const std::vector<ScheduledWork>& work);
  void add_work(const ScheduledWork& work);
  void deliver(const ScheduledWork& work, std::span<const SampledToken> rows, Sequence::Clock::time_point now);
  void deliver_token(Sequence& sequence, const SampledToken& sampled, Sequence::Clock::time_point now);
  void finish(Sequence& sequence, FinishReason reason, std::optional<std::string> stop_match, std::optional<int32_t> stop_token);
  // Work for one sequence, above all calls of its sink. What it throws ends that sequence; step() rethrows it once the others are served.
  template <typename Work>
  void guard(SequenceId id, Work&& work);

  LoadedModel loaded_;
  Scheduler scheduler_;
  int32_t vocab_with_text_ = 0;
  std::map<SequenceId, std::unique_ptr<Sequence>> sequences_;
  std::vector<SequenceId> to_end_;  // at the beginning of the next step
  SequenceId next_id_ = 1;
  bool stepping_ = false;
  std::exception_ptr error_;               // first of this step
  std::exception_ptr broken_;              // a step that the executor could not finish
  Flight flight_, next_flight_, landing_;  // flight_ was launched first; without work: none
  EngineCounters counters_;
  // Kept between steps for their capacity.
  Batch batch_;
  std::vector<SeenToken> seen_;
  std::vector<LogitBias> biases_;
  std::vector<TokenLogprob> top_;
};

void EngineImpl::validate_prompt(std::span<const int32_t> prompt, const SamplingParams& params) const {
  if (prompt.empty()) throw Error("the prompt is empty: the model needs at least one token to go on from");
  const int64_t context = loaded_.info.ctx_size;
  const auto length = static_cast<int64_t>(prompt.size());
  const bool draws = params.max_tokens > 0;
  if (length > context || (draws && length == context)) {
    throw Error(fmt::format("prompt has {} tokens, context is {} ({}){}. Shorten it, or --truncate left", with_commas(length),
                            with_commas(context), loaded_.ctx_source, length == context ? ", which leaves no room for an answer" : ""));
  }
  const int32_t vocab = loaded_.model.config.vocab;
  for (size_t i = 0; i < prompt.size(); ++i) {
    if (prompt[i] < 0 || prompt[i] >= vocab) {
      throw Error(fmt::format("prompt id {} (number {} of {}) is outside the model's vocabulary: ids are 0 to {}", prompt[i], i + 1,
                              prompt.size(), vocab - 1));
    }
  }
}

SequenceId EngineImpl::add(std::vector<int32_t> prompt, const SamplingParams& params, OutputSink& sink) {
  params.validate(loaded_.model.config.vocab);
  validate_prompt(prompt, params);
  const int64_t room = loaded_.info.ctx_size - static_cast<int64_t>(prompt.size());
  const auto max_output = static_cast<int32_t>(std::min<int64_t>(params.max_tokens, room));
  const SequenceId id = next_id_++;
  auto sequence = std::make_unique<Sequence>(id, std::move(prompt), params, sink, loaded_.tokenizer.get(), max_output, vocab_with_text_);
  scheduler_.add(*sequence);
  if (sequence->goal() == 0) to_end_.push_back(id);
  sequences_.emplace(id, std::move(sequence));
  return id;
}

void EngineImpl::cancel(SequenceId id) {
  const auto at = sequences_.find(id);
  if (at == sequences_.end() || std::exchange(at->second->cancelled, true)) return;
  to_end_.push_back(id);
}

bool EngineImpl::step() {
  BOLIDE_CHECK(!stepping_);  // a sink must not run the engine that calls it
  if (broken_) std::rethrow_exception(broken_);
  stepping_ = true;
  const std::unique_ptr<bool, void (*)(bool*)> leave(&stepping_, [](bool* flag) { *flag = false; });
  end_finished();
  if (flight_.work.empty() && !sequences_.empty()) {
    const Lap lap(counters_.prepare_seconds);
    const std::vector<ScheduledWork>& work = scheduler_.plan();
    BOLIDE_CHECK(!work.empty() || !to_end_.empty());
    launch(flight_, work);
  }
  if (!flight_.work.empty()) {
    // While the device works on a step, the next one is handed over: the device goes from one to the other without waiting for the
    // host, which reads one step behind.
    if (loaded_.run_ahead) {
      const Lap lap(counters_.prepare_seconds);
      launch(next_flight_, scheduler_.plan_ahead());
      counters_.steps_ahead += next_flight_.work.empty() ? 0 : 1;
    }
    land();
  }
  if (sequences_.empty() && !flight_.work.empty()) land();  // nobody waits for it
#ifndef NDEBUG
  scheduler_.check();
#endif
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  return !sequences_.empty();
}

// Builds and submits a step, unless there is nothing to do. One that fails leaves published chunks without contents: nothing may go on
// from there.
void EngineImpl::launch(Flight& flight, const std::vector<ScheduledWork>& work) {
  flight.work.assign(work.begin(), work.end());
  flight.ids.clear();
  flight.rows.clear();
  if (work.empty()) return;
  try {
    build_batch(work);
    for (const ScheduledWork& item : work) {
      flight.ids.push_back(item.sequence->id);
      flight.rows.push_back(static_cast<size_t>(item.logprob_end - item.logprob_begin) + (item.draws ? 1 : 0));
    }
    const Lap lap(counters_.submit_seconds, &counters_.prepare_seconds);
    loaded_.executor->submit(batch_);
  } catch (...) {
    broken_ = std::current_exception();
    throw;
  }
  ++counters_.steps;
  counters_.tokens += batch_.tokens();
}

// Waits for flight_ and hands out what it drew; next_flight_ takes its place.
void EngineImpl::land() {
  std::swap(flight_, landing_);
  std::swap(flight_, next_flight_);
  next_flight_.work.clear();
  std::span<const SampledToken> rows;
  try {
    const Lap lap(counters_.wait_seconds);
    rows = loaded_.executor->wait();
  } catch (...) {
    broken_ = std::current_exception();
    throw;
  }
  const Lap lap(counters_.deliver_seconds);
  const Sequence::Clock::time_point now = Sequence::Clock::now();
  size_t row = 0;
  for (size_t i = 0; i < landing_.work.size(); ++i) {
    const size_t count = landing_.rows[i];
    // A sequence may have ended, or been cancelled, since its row was launched.
    if (sequences_.count(landing_.ids[i]) != 0) {
      guard(landing_.ids[i], [&] { deliver(landing_.work[i], rows.subspan(row, count), now); });
    }
    row += count;
  }
  landing_.work.clear();
}

// Sequences that were cancelled, or that came with nothing to compute.
void EngineImpl::end_finished() {
  for (const SequenceId id : std::exchange(to_end_, {})) {
    const auto at = sequences_.find(id);
    if (at == sequences_.end()) continue;  // it ended by itself in the meantime
    Sequence& sequence = *at->second;
    std::vector<float> logprobs;
    if (!sequence.cancelled && sequence.take_prompt_logprobs(logprobs)) {
      guard(id, [&] { sequence.sink.on_prompt_logprobs(id, logprobs); });
    }
    finish(sequence, sequence.cancelled ? FinishReason::cancelled : FinishReason::length, std::nullopt, std::nullopt);
  }
}

void EngineImpl::build_batch(const std::vector<ScheduledWork>& work) {
  batch_.clear();
  batch_.copies = scheduler_.copies();
  const Sequence::Clock::time_point now = Sequence::Clock::now();
  for (const ScheduledWork& item : work) {
    item.sequence->mark_scheduled(now);
    add_work(item);
  }
}

void EngineImpl::add_work(const ScheduledWork& work) {
  Sequence& sequence = *work.sequence;
  const int32_t first_row = batch_.tokens(), end = work.begin + work.tokens;
  const std::span<const int32_t> all = sequence.tokens;
  // A token that is still under way is what its row of the step before draws.
  const int32_t drawn = -1 - sequence.drawn_row;
  for_each_piece(work.begin, end, loaded_.limits, [&](int32_t from, int32_t to) {
    const bool known = static_cast<size_t>(to) <= all.size();
    BOLIDE_CHECK(known || to - from == 1);
    const auto piece = known ? all.subspan(static_cast<size_t>(from), static_cast<size_t>(to - from)) : std::span(&drawn, 1);
    batch_.add_sequence(piece, from, sequence.chunks, loaded_.limits.chunk_tokens);
  });
  for (int32_t position = work.logprob_begin; position < work.logprob_end; ++position) {
    batch_.add_logits(first_row + position - work.begin, sequence.prompt_logprob_spec(position), {}, {});
  }
  if (!work.draws) return;
  sequence.collect_penalties(seen_, biases_);
  sequence.drawn_row = batch_.logit_row_count();
  SamplingSpec spec = sequence.next_token_spec(end);
  add_stop_ids(sequence, spec);
  batch_.add_logits(first_row + work.tokens - 1, spec, seen_, biases_);
}

void EngineImpl::deliver(const ScheduledWork& work, std::span<const SampledToken> rows, Sequence::Clock::time_point now) {
  Sequence& sequence = *work.sequence;
  size_t row = 0;
  for (int32_t position = work.logprob_begin; position < work.logprob_end; ++position) {
    sequence.set_prompt_logprob(position, rows[row++].logprob);
  }
  std::vector<float> logprobs;
  if (sequence.take_prompt_logprobs(logprobs)) {
    guard(sequence.id, [&] { sequence.sink.on_prompt_logprobs(sequence.id, logprobs); });
  }
  if (work.draws) {
    deliver_token(sequence, rows[row], now);
  } else if (sequence.max_output == 0 && sequence.logprobs_known()) {
    finish(sequence, FinishReason::length, std::nullopt, std::nullopt);
  }
}

bool EngineImpl::is_stop(const Sequence& sequence, int32_t id) const {
  const std::vector<int32_t>& own = sequence.params.stop_token_ids;
  if (std::find(own.begin(), own.end(), id) != own.end()) return true;
  return !sequence.params.ignore_eos && std::binary_search(loaded_.eos_ids.begin(), loaded_.eos_ids.end(), id);
}

// The same ids for the device, where they fit.
void EngineImpl::add_stop_ids(const Sequence& sequence, SamplingSpec& spec) const {
  const std::span<const int32_t> own = sequence.params.stop_token_ids;
  const std::span<const int32_t> eos = sequence.params.ignore_eos ? std::span<const int32_t>() : std::span(loaded_.eos_ids);
  if (own.size() + eos.size() > kMaxStopIds) return;
  std::copy(eos.begin(), eos.end(), std::copy(own.begin(), own.end(), spec.stop_ids));
}

void EngineImpl::deliver_token(Sequence& sequence, const SampledToken& sampled, Sequence::Clock::time_point now) {
  if (sampled.id < 0 || sampled.id >= loaded_.model.config.vocab) {
    throw Error(
        fmt::format("no token could be drawn after {} tokens: the model's logits are not finite. Its weights may be damaged, or too "
                    "large for {} activations",
                    sequence.tokens.size(), dtype_name(loaded_.device.backend->activation_dtype())));
  }
  sequence.mark_token(now);
  if (is_stop(sequence, sampled.id)) return finish(sequence, FinishReason::stop, std::nullopt, sampled.id);
  sequence.append(sampled.id);
  scheduler_.publish(sequence);
  const OutputText::Piece piece = sequence.text.push(sampled.id);
  top_.clear();
  for (int32_t i = 0; i < std::min(sampled.top_count, kMaxTopLogprobs); ++i) top_.push_back({sampled.top_ids[i], sampled.top_logprobs[i]});
  const TokenEvent event{sequence.id, sampled.id, piece.text, sampled.logprob, top_};
  guard(sequence.id, [&] { sequence.sink.on_token(event); });
  if (piece.matched) {
    finish(sequence, FinishReason::stop, piece.matched, std::nullopt);
  } else if (sequence.output_tokens() >= sequence.max_output) {
    finish(sequence, FinishReason::length, std::nullopt, std::nullopt);
  }
}

void EngineImpl::finish(Sequence& sequence, FinishReason reason, std::optional<std::string> stop_match, std::optional<int32_t> stop_token) {
  OutputText::Piece tail;
  if (!stop_match) tail = sequence.text.finish();
  if (tail.matched && !stop_token) {
    reason = reason == FinishReason::cancelled ? reason : FinishReason::stop;
    stop_match = tail.matched;
  }
  const SequenceStats stats = sequence.stats(Sequence::Clock::now());
  // The sink may add a sequence or look at this one's end as final: it is gone before the call.
  scheduler_.remove(sequence);
  const auto at = sequences_.find(sequence.id);
  const std::unique_ptr<Sequence> owner = std::move(at->second);
  sequences_.erase(at);
  const FinishEvent event{owner->id, reason, std::move(stop_match), stop_token, tail.text, stats};
  guard(owner->id, [&] { owner->sink.on_finish(event); });
}

template <typename Work>
void EngineImpl::guard(SequenceId id, Work&& work) {
  try {
    work();
  } catch (...) {
    if (!error_) error_ = std::current_exception();
    cancel(id);
  }
}

}  // namespace

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::none:
      return "none";
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::cancelled:
      return "cancelled";
  }
  return "?";
}

std::unique_ptr<Engine> make_engine(LoadedModel loaded) { return std::make_unique<EngineImpl>(std::move(loaded)); }

std::unique_ptr<Engine> Engine::load(const ModelSource& source, const EngineOptions& options) {
  return make_engine(load_engine(source, options));
}

}  // namespace bolide
