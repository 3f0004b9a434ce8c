// What `bolide bench throughput` prints: vLLM's line and keys, and what the figures are to be held against.
#pragma once

#include <string>

#include "cli/bench_report.h"
#include "cli/json.h"
#include "cli/throughput_run.h"

namespace bolide {

struct ThroughputContext {
  const BenchContext& bench;
  const WorkloadShape& shape;
  std::string workload;  // a file's name, or empty
  bool warmup = true;
  int32_t max_num_seqs = 1;
  int64_t fewest_steps = 0;  // 0: not known, as requests arrive over time
};

// What bounds the run from below: seconds that the device needs for its memory traffic alone, at the bandwidth measured around the run.
struct Ceiling {
  double weight_bytes = 0;  // of one step
  double seconds = 0;       // 0: not known
  double tokens_per_second = 0, percent = 0;
};
Ceiling ceiling_of(const ThroughputContext& context, const ThroughputResult& result);

std::string throughput_text(const ThroughputContext& context, const ThroughputResult& result);
// Keys are a contract with scripts: additions only.
Json throughput_record(const ThroughputContext& context, const ThroughputResult& result);

}  // namespace bolide
