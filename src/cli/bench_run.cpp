#include "cli/bench_run.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cli/clock.h"
#include "core/philox.h"

namespace bolide {
namespace {

class TokenTimes final : public OutputSink {
 public:
  void on_token(const TokenEvent&) override { times.push_back(Clock::now()); }
  void on_finish(const FinishEvent&) override {}
  std::vector<Clock::time_point> times;
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

}  // namespace

std::string BenchCase::label() const {
  std::string text = is_decode() ? fmt::format("tg{}", generate) : fmt::format("pp{}", prompt);
  if (depth > 0) text += fmt::format(" @ d{}", depth);
  return text;
}

std::vector<double> BenchResult::rates() const {
  std::vector<double> rates;
  for (const BenchSample& sample : samples) rates.push_back(test.tokens() / sample.seconds);
  return rates;
}

Spread spread_of(std::vector<double> values) {
  BOLIDE_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  Spread spread;
  spread.least = values.front();
  spread.most = values.back();
  spread.median = n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
  spread.mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(n);
  double squares = 0;
  for (const double value : values) squares += (value - spread.mean) * (value - spread.mean);
  if (n > 1) spread.deviation = std::sqrt(squares / static_cast<double>(n - 1));
  return spread;
}

std::vector<int32_t> BenchRunner::random_prompt(int32_t tokens, const BenchCase& test, int32_t repetition) const {
  const uint64_t place = (static_cast<uint64_t>(static_cast<uint32_t>(test.depth)) << 32) | static_cast<uint32_t>(test.tokens());
  const auto vocab = static_cast<uint64_t>(engine_.config().vocab);
  std::vector<int32_t> ids(static_cast<size_t>(tokens));
  for (size_t i = 0; i < ids.size(); ++i) {
    const uint64_t counter = (static_cast<uint64_t>(static_cast<uint32_t>(repetition)) << 32) | i;
    ids[i] = static_cast<int32_t>(philox4x32(settings_.seed, counter, place).v[0] % vocab);
  }
  return ids;
}

std::optional<BenchSample> BenchRunner::run_once(const BenchCase& test, int32_t repetition) {
  const bool decode = test.is_decode();
  const int32_t prompt_tokens = decode ? std::max(test.depth, 1) : test.depth + test.prompt;
  SamplingParams params;
  params.temperature = 0;
  params.ignore_eos = true;
  params.max_tokens = decode ? test.generate + 1 : 1;
  TokenTimes sink;
  sink.times.reserve(static_cast<size_t>(params.max_tokens));
  const SequenceId id = engine_.add(random_prompt(prompt_tokens, test, repetition), params, sink);

  const auto start = Clock::now();
  std::vector<double> step_ends{0};  // seconds, while the prompt is being prefilled
  bool cancelled = false;
  while (engine_.step()) {
    if (sink.times.empty()) step_ends.push_back(seconds_between(start, Clock::now()));
    if (!cancelled && stop_.requested()) {
      engine_.cancel(id);
      cancelled = true;
    }
  }
  if (cancelled) return std::nullopt;
  BOLIDE_CHECK(sink.times.size() == static_cast<size_t>(params.max_tokens));
  BenchSample sample;
  if (decode) {
    const size_t last = sink.times.size() - 1, quarter = std::max<size_t>(1, last / 4);
    sample.seconds = seconds_between(sink.times[0], sink.times[last]);
    sample.first_quarter_rate = rate_between(sink.times, 0, quarter);
    sample.last_quarter_rate = rate_between(sink.times, last - quarter, last);
  } else {
    const double end = seconds_between(start, sink.times[0]);
    step_ends.push_back(end);
    const int32_t rows = settings_.max_num_batched_tokens;
    BOLIDE_CHECK(step_ends.size() - 1 == static_cast<size_t>((prompt_tokens + rows - 1) / rows));
    sample.seconds = end - depth_done(step_ends, test.depth, rows, prompt_tokens);
  }
  return sample;
}

}  // namespace bolide
