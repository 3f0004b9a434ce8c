// The measuring part of `bolide bench throughput`: requests through the engine as they arrive, and what their users would have seen.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cli/bench_run.h"
#include "cli/signals.h"
#include "cli/throughput_workload.h"
#include "engine/engine.h"

namespace bolide {

// Mean, standard deviation, median and 99th percentile, in seconds; all 0 where there is nothing to measure.
struct Latency {
  double mean = 0, deviation = 0, median = 0, p99 = 0;
};
// The p-th percentile lies between the two nearest values, as numpy has it.
Latency latency_of(std::vector<double> seconds);

struct ThroughputResult {
  bool interrupted = false;
  double seconds = 0;     // from the first request to the last token
  int64_t requests = 0;   // finished
  int64_t preempted = 0;  // of them, how many had to be computed again
  int64_t prompt_tokens = 0, output_tokens = 0;
  // Time to the first token; between tokens, per request; between neighbouring tokens, of all requests together; to the last token.
  Latency ttft, tpot, itl, e2el;
  EngineCounters counters;
  double kv_bytes = 0;  // K and V that the output tokens after each request's first one have read
  ReadBandwidth bandwidth;
  DeviceState before, after;
};

class ThroughputRunner {
 public:
  // `progress` hears how many requests have finished.
  ThroughputRunner(Engine& engine, const GracefulStop& stop, std::function<void(size_t)> progress)
      : engine_(engine), stop_(stop), progress_(std::move(progress)) {}

  // Fills everything but the bandwidth and the device's state. A signal ends it early: what has come until then is counted.
  ThroughputResult run(const std::vector<WorkloadRequest>& requests, float temperature, uint64_t seed);

 private:
  Engine& engine_;
  const GracefulStop& stop_;
  std::function<void(size_t)> progress_;
};

// Requests that take a device through what a run will ask of it: prompts that fill a step, one of them as long as a step if there is one
// so long, and as many sequences side by side as run later, which end in groups, so that every batch size between powers of two occurs.
std::vector<WorkloadRequest> warm_up_workload(int32_t sequences, int32_t step_tokens, int32_t longest_prompt, int32_t vocab);

// Bytes of K and V that the output tokens of a request read, its first one apart: that one comes with the prefill.
double kv_bytes_read(const EngineInfo& info, const ModelConfig& config, int32_t prompt, int32_t output);

}  // namespace bolide
