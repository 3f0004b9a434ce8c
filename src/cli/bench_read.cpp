#include "cli/bench_read.h"

#include <algorithm>
#include <chrono>

#include "cli/spread.h"
#include "core/error.h"

namespace bolide {

bool ReadBandwidth::wandered() const {
  constexpr double kTolerance = 0.10;
  return std::max(before, after) > (1 + kTolerance) * std::min(before, after);
}

double ReadMeter::now() {
  if (!measures_) return given_;
  latest_ = backend_.probe_read_bandwidth();
  measured_at_ = Clock::now();
  return latest_;
}

bool ReadMeter::stale() const {
  constexpr std::chrono::milliseconds kFresh{150};
  return measures_ && Clock::now() - measured_at_ > kFresh;
}

ReadShares read_shares(const std::vector<double>& rates, const std::vector<ReadBandwidth>& around) {
  BOLIDE_CHECK(!rates.empty() && rates.size() == around.size());
  ReadShares shares;
  std::vector<double> steady;
  for (size_t i = 0; i < rates.size(); ++i) {
    shares.percents.push_back(100 * rates[i] / around[i].mean());
    if (!around[i].wandered()) steady.push_back(shares.percents.back());
  }
  shares.steady = steady.size();
  shares.median = spread_of(steady.empty() ? shares.percents : steady).median;
  return shares;
}

}  // namespace bolide
