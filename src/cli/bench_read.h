// The device's read bandwidth beside what `bolide bench` times, and the share of it that each repetition reaches.
#pragma once

#include <cstddef>
#include <vector>

#include "backend/backend.h"
#include "cli/clock.h"

namespace bolide {

// The device's read bandwidth around something timed, bytes/s. It stands beside every share, since machines change it by themselves.
struct ReadBandwidth {
  double before = 0, after = 0;  // 0: not known
  bool measured = true;          // in this run; given by the caller otherwise
  bool known() const { return before > 0 && after > 0; }
  double mean() const { return (before + after) / 2; }
  // Whether the two differ by more than 10 %, so that a share of their mean says little.
  bool wandered() const;
};

// Measures it again and again, or repeats what the caller has given.
class ReadMeter {
 public:
  // `given`: bytes/s; 0: measured. `wanted`: false where nothing is measured either.
  ReadMeter(Backend& backend, double given, bool wanted) : backend_(backend), given_(given), measures_(wanted && given <= 0) {}

  bool measures() const { return measures_; }
  double now();
  // Of the latest measurement, or as given.
  double latest() const { return measures_ ? latest_ : given_; }
  // Whether so much time has passed since the latest measurement that the machine may have changed.
  bool stale() const;

 private:
  Backend& backend_;
  double given_;
  bool measures_;
  double latest_ = 0;
  Clock::time_point measured_at_;
};

// What the repetitions of a test reach of the read bandwidth, in per cent.
struct ReadShares {
  std::vector<double> percents;  // of each, against the mean of the two measurements around it
  size_t steady = 0;             // how many repetitions the two agree around, within 10 %
  double median = 0;             // of those; of all where there are none
  // Fewer than half of the repetitions are steady ones.
  bool doubtful() const { return 2 * steady < percents.size(); }
};
// rates: bytes/s of each repetition; around: the read bandwidth, known for each. Neither is empty.
ReadShares read_shares(const std::vector<double>& rates, const std::vector<ReadBandwidth>& around);

}  // namespace bolide
