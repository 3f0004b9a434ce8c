#include "cli/throughput_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "cli/clock.h"
#include "cli/model_facts.h"

namespace bolide {
namespace {

class Request final : public OutputSink {
 public:
  void on_token(const TokenEvent&) override { times.push_back(Clock::now()); }
  void on_finish(const FinishEvent& event) override {
    finished = event.reason != FinishReason::cancelled;
    preempted = event.stats.preemptions > 0;
    ++*ended;
  }
  size_t* ended = nullptr;
  Clock::time_point arrival;
  std::vector<Clock::time_point> times;  // of its tokens
  bool finished = false, preempted = false;
};

EngineCounters difference(const EngineCounters& after, const EngineCounters& before) {
  EngineCounters out = after;
  out.steps -= before.steps;
  out.steps_ahead -= before.steps_ahead;
  out.tokens -= before.tokens;
  out.prepare_seconds -= before.prepare_seconds;
  out.submit_seconds -= before.submit_seconds;
  out.wait_seconds -= before.wait_seconds;
  out.deliver_seconds -= before.deliver_seconds;
  return out;
}

void summarise(const std::vector<Request>& requests, ThroughputResult& result) {
  std::vector<double> ttft, tpot, itl, e2el;
  for (const Request& request : requests) {
    result.output_tokens += static_cast<int64_t>(request.times.size());
    if (!request.finished || request.times.empty()) continue;
    ++result.requests;
    result.preempted += request.preempted ? 1 : 0;
    const double first = seconds_between(request.arrival, request.times.front()),
                 last = seconds_between(request.arrival, request.times.back());
    ttft.push_back(first);
    e2el.push_back(last);
    if (request.times.size() > 1) tpot.push_back((last - first) / static_cast<double>(request.times.size() - 1));
    for (size_t i = 1; i < request.times.size(); ++i) itl.push_back(seconds_between(request.times[i - 1], request.times[i]));
  }
  result.ttft = latency_of(std::move(ttft));
  result.tpot = latency_of(std::move(tpot));
  result.itl = latency_of(std::move(itl));
  result.e2el = latency_of(std::move(e2el));
}

}  // namespace

Latency latency_of(std::vector<double> seconds) {
  if (seconds.empty()) return {};
  const Spread spread = spread_of(seconds);
  std::sort(seconds.begin(), seconds.end());
  const double at = 0.99 * static_cast<double>(seconds.size() - 1);
  const auto below = static_cast<size_t>(at);
  const double above = seconds[std::min(below + 1, seconds.size() - 1)];
  return {spread.mean, spread.deviation, spread.median, seconds[below] + (at - static_cast<double>(below)) * (above - seconds[below])};
}

ThroughputResult ThroughputRunner::run(const std::vector<WorkloadRequest>& workload, float temperature, uint64_t seed) {
  ThroughputResult result;
  std::vector<Request> requests(workload.size());
  size_t ended = 0, shown = 0, next = 0;
  for (size_t i = 0; i < workload.size(); ++i) {
    requests[i].ended = &ended;
    requests[i].times.reserve(static_cast<size_t>(workload[i].output));
  }
  std::vector<SequenceId> ids;
  SamplingParams params;
  params.temperature = temperature;
  params.ignore_eos = true;
  params.seed = seed;
  const EngineCounters before = engine_.counters();
  const Clock::time_point start = Clock::now();
  const auto arrival = [&](size_t i) {
    return start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(workload[i].arrival));
  };
  while (true) {
    for (; !result.interrupted && next < workload.size() && arrival(next) <= Clock::now(); ++next) {
      params.max_tokens = workload[next].output;
      params.sequence_key = next;  // sequences with equal seeds draw apart
      requests[next].arrival = arrival(next);
      ids.push_back(engine_.add(workload[next].prompt, params, requests[next]));
      result.prompt_tokens += static_cast<int64_t>(workload[next].prompt.size());
    }
    const bool busy = engine_.step();
    if (stop_.requested() && !result.interrupted) {
      result.interrupted = true;
      for (const SequenceId id : ids) engine_.cancel(id);
    }
    if (ended != shown) progress_(shown = ended);
    if (busy) continue;
    if (next == workload.size() || result.interrupted) break;
    // Nothing to do until the next request, or a signal.
    std::this_thread::sleep_until(std::min(arrival(next), Clock::now() + std::chrono::milliseconds(20)));
  }
  result.seconds = seconds_between(start, Clock::now());
  result.counters = difference(engine_.counters(), before);
  summarise(requests, result);
  for (size_t i = 0; i < next; ++i)
    result.kv_bytes += kv_bytes_read(engine_.info(), engine_.config(), static_cast<int32_t>(workload[i].prompt.size()),
                                     static_cast<int32_t>(requests[i].times.size()));
  return result;
}

std::vector<WorkloadRequest> warm_up_workload(int32_t sequences, int32_t step_tokens, int32_t longest_prompt, int32_t vocab) {
  constexpr int32_t kStepsEach = 4, kPrompt = 16;
  std::vector<WorkloadRequest> requests(static_cast<size_t>(sequences));
  const int32_t each = std::max(kPrompt, step_tokens / sequences);
  int32_t output = kStepsEach;
  for (int32_t i = sequences - 1, group = (sequences + 1) / 2; i >= 0; --i) {
    WorkloadRequest& request = requests[static_cast<size_t>(i)];
    const int32_t tokens = std::min(i == 0 ? step_tokens : each, longest_prompt);
    request.prompt = random_tokens(tokens, vocab, /*seed=*/0x77, /*place=*/1, static_cast<uint32_t>(i));
    request.output = output;
    if (--group > 0) continue;
    group = (i + 1) / 2;
    output += kStepsEach;
  }
  return requests;
}

double kv_bytes_read(const EngineInfo& info, const ModelConfig& config, int32_t prompt, int32_t output) {
  double bytes = 0;
  for (int32_t i = 1; i < output; ++i) bytes += kv_bytes(config, info.kv_dtype, prompt + i);
  return bytes;
}

}  // namespace bolide
