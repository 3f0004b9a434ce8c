#include "cli/bench_run.h"

#include <algorithm>

#include "cli/clock.h"
#include "core/philox.h"

namespace bolide {
namespace {

class TokenTimes final : public OutputSink {
 public:
  void on_token(const TokenEvent&) override { times.push_back(Clock::now()); }
  void on_finish(const FinishEvent& event) override {
    preempted = event.stats.preemptions > 0;
    cancelled = event.reason == FinishReason::cancelled;
  }
  std::vector<Clock::time_point> times;
  bool preempted = false, cancelled = false;
};

// When the first `depth` tokens were done, by linear interpolation within the step that passed them. ends[i] is the time after i steps
// of `rows` tokens each, the last step holding what is left of `total`.
double depth_done(const std::vector<double>& ends, int32_t depth, int32_t rows, int32_t total) {
  const size_t step = static_cast<size_t>(depth / rows);
  const int32_t inside = depth % rows;
  if (inside == 0) return ends[step];
  const int32_t step_tokens = std::min(rows, total - static_cast<int32_t>(step) * rows);
  return ends[step] + (ends[step + 1] - ends[step]) * inside / step_tokens;
}

double rate_between(const std::vector<Clock::time_point>& times, size_t first, size_t last) {
  return static_cast<double>(last - first) / seconds_between(times[first], times[last]);
}

// Another one for every kind of test, repetition and sequence, so that no test finds a part of its prompt in the cache of another.
std::vector<int32_t> prompt(const BenchCase& test, int32_t vocab, uint64_t seed, int32_t repetition, int32_t sequence) {
  constexpr uint64_t kMostSequences = 4096;
  const auto number = [](int32_t value) { return static_cast<uint64_t>(static_cast<uint32_t>(value)); };
  const uint64_t place = (number(test.depth) << 40) ^ (number(test.prompt) << 20) ^ number(test.generate);
  const uint64_t which = number(repetition) * kMostSequences + number(sequence);
  return random_tokens(test.prompt_tokens(), vocab, seed, place, static_cast<uint32_t>(which));
}

// The repetition's sequences, from their requests on.
class Run {
 public:
  Run(Engine& engine, const BenchCase& test, const BenchSettings& settings, int32_t repetition, ReadMeter* meter)
      : engine_(engine), test_(test), meter_(may_pause() ? meter : nullptr) {
    SamplingParams params;
    params.temperature = 0;
    params.ignore_eos = true;
    params.max_tokens = test.generate + (meter_ ? 2 : 1);
    // Of several sequences, those that start first go on until the last one is done.
    if (test.batch > 1) params.max_tokens = static_cast<int32_t>(test.context(settings.max_num_batched_tokens) - test.prompt_tokens());
    sinks_.resize(static_cast<size_t>(test.batch));
    std::vector<std::vector<int32_t>> prompts;
    for (int32_t i = 0; i < test.batch; ++i) {
      sinks_[static_cast<size_t>(i)].times.reserve(static_cast<size_t>(params.max_tokens));
      prompts.push_back(prompt(test, engine.config().vocab, settings.seed, repetition, i));
    }
    start_ = Clock::now();
    for (size_t i = 0; i < sinks_.size(); ++i) ids_.push_back(engine.add(std::move(prompts[i]), params, sinks_[i]));
  }

  // False when a signal ended it.
  bool to_end(const GracefulStop& stop) {
    bool cancelled = false, interrupted = false;
    while (engine_.step()) {
      const size_t tokens = sinks_.back().times.size();
      if (tokens == 0) step_ends_.push_back(seconds_between(start_, Clock::now()));
      if (tokens == 1 && meter_ && meter_->stale()) {
        meter_->now();
        clock_start_ = 1;
      }
      if (cancelled || !(stop.requested() || done())) continue;
      interrupted = !done();
      for (const SequenceId id : ids_) engine_.cancel(id);
      cancelled = true;
    }
    if (interrupted) return false;
    if (!done()) {
      throw Error(fmt::format("{} needs a context of {} tokens, and the model has {}. Use a smaller --n-depth, --n-prompt or --n-gen",
                              test_.label(), test_.prompt_tokens() + test_.generate + 1, engine_.info().ctx_size));
    }
    for (const TokenTimes& sink : sinks_) {
      // One that came to an end of its own did not decode beside the last one all the time.
      if (sink.preempted || (test_.batch > 1 && !sink.cancelled)) {
        throw MemoryError(fmt::format("{}: the KV cache does not hold {} sequences of {} tokens. Use a smaller --batch-size or --n-depth",
                                      test_.label(), test_.batch, test_.prompt_tokens() + test_.generate));
      }
    }
    return true;
  }

  BenchSample decode_sample() const {
    const std::vector<Clock::time_point>& times = sinks_.back().times;  // the last to start
    const size_t generate = static_cast<size_t>(test_.generate), quarter = std::max<size_t>(1, generate / 4);
    const size_t first = clock_start_, last = clock_start_ + generate;
    BenchSample sample;
    sample.first_token_seconds = first_token_seconds();
    sample.seconds = seconds_between(times[first], times[last]);
    sample.first_quarter_rate = test_.batch * rate_between(times, first, first + quarter);
    sample.last_quarter_rate = test_.batch * rate_between(times, last - quarter, last);
    double ahead = 0;
    for (const TokenTimes& sink : sinks_) ahead += static_cast<double>(sink.times.size()) - static_cast<double>(times.size());
    sample.mean_start = test_.prompt_tokens() + static_cast<double>(clock_start_) + ahead / test_.batch;
    return sample;
  }

  BenchSample prompt_sample(int32_t rows) const {
    const double first = seconds_between(start_, sinks_[0].times.front()), end = seconds_between(start_, sinks_[0].times.back());
    std::vector<double> ends = step_ends_;
    ends.push_back(first);
    BOLIDE_CHECK(ends.size() - 1 == static_cast<size_t>((test_.prompt_tokens() + rows - 1) / rows));
    BenchSample sample;
    sample.first_token_seconds = first;
    sample.seconds = end - depth_done(ends, test_.depth, rows, test_.prompt_tokens());
    return sample;
  }

 private:
  // Whether nothing runs on between two steps, and a token more than the test's has room.
  bool may_pause() const {
    return test_.is_decode() && !engine_.backend().asynchronous() && engine_.info().ctx_size >= test_.prompt_tokens() + test_.generate + 2;
  }

  // Whether every sequence has its first token, and the last one to start has decoded what the test asks for.
  bool done() const { return sinks_.back().times.size() > clock_start_ + static_cast<size_t>(test_.generate); }

  double first_token_seconds() const {
    std::vector<double> seconds;
    for (const TokenTimes& sink : sinks_) seconds.push_back(seconds_between(start_, sink.times.front()));
    return spread_of(std::move(seconds)).median;
  }

  Engine& engine_;
  const BenchCase& test_;
  ReadMeter* meter_;               // null where it must not be asked between two steps
  size_t clock_start_ = 0;         // which output token of the last sequence starts the clock of a decode test
  std::vector<TokenTimes> sinks_;  // in the order in which the scheduler starts them
  std::vector<SequenceId> ids_;
  Clock::time_point start_;
  std::vector<double> step_ends_{0};  // seconds, while the prompt is being prefilled
};

}  // namespace

int64_t BenchCase::context(int32_t rows) const {
  int64_t tokens = int64_t{prompt_tokens()} + generate + 2;
  // Each running sequence takes a row of every step, so that at least one row, and rows - batch + 1 of them, prefill.
  if (batch > 1) tokens += (int64_t{batch} * prompt_tokens()) / std::max(1, rows - batch + 1) + 2;
  // The scheduler admits a sequence only where a chunk for each running one stays free.
  if (batch > 1) tokens += EngineOptions{}.chunk_tokens;
  return tokens;
}

std::string BenchCase::label() const {
  std::string text = prompt > 0 ? fmt::format("pp{}", prompt) : "";
  if (generate > 0) text += fmt::format("{}tg{}", text.empty() ? "" : "+", generate);
  if (batch > 1) text += fmt::format(" x {}", batch);
  if (depth > 0) text += fmt::format(" @ d{}", depth);
  return text;
}

std::vector<double> BenchResult::rates() const {
  std::vector<double> rates;
  for (const BenchSample& sample : samples) rates.push_back(static_cast<double>(test.tokens()) / sample.seconds);
  return rates;
}

std::vector<int32_t> random_tokens(int32_t count, int32_t vocab, uint64_t seed, uint64_t place, uint32_t repetition) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (size_t i = 0; i < ids.size(); ++i) {
    const uint64_t counter = (static_cast<uint64_t>(repetition) << 32) | i;
    ids[i] = static_cast<int32_t>(philox4x32(seed, counter, place).v[0] % static_cast<uint64_t>(vocab));
  }
  return ids;
}

std::optional<BenchSample> BenchRunner::run_once(const BenchCase& test, int32_t repetition, ReadMeter* meter) {
  Run run(engine_, test, settings_, repetition, meter);
  if (!run.to_end(stop_)) return std::nullopt;
  BenchSample sample = test.is_decode() ? run.decode_sample() : run.prompt_sample(settings_.max_num_batched_tokens);
  if (meter) sample.bandwidth.before = meter->latest();
  return sample;
}

}  // namespace bolide
