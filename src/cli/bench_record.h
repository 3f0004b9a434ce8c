// One finished test of `bolide bench` as figures, and as the JSON record that carries everything needed to repeat them.
#pragma once

#include "cli/bench_report.h"
#include "cli/json.h"

namespace bolide {

struct BenchFigures {
  Spread rates;                                  // tokens/s
  double bytes = 0, bandwidth = 0, percent = 0;  // decode only: per token, bytes/s at the median rate, of the mean read bandwidth
  ReadShares shares;                             // decode only, where the read bandwidth is known
  Spread read_bandwidth;                         // bytes/s: what was measured around the repetitions, or around the test
  double first_token_ms = 0;                     // median
};
BenchFigures figures_of(const BenchContext& context, const BenchResult& result);

// Keys are a contract with scripts: additions only.
Json bench_record(const BenchContext& context, const BenchResult& result);

// What the device says about itself before and after something: "driver", "sm_clock_mhz" and so on, null where it says nothing.
void add_device_state(Json& record, const DeviceState& before, const DeviceState& after);

}  // namespace bolide
