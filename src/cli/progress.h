// One line on standard error that says how far a long run is, rewritten in place. Terminals only; logs and pipes never see it.
#pragma once

#include <cstdint>
#include <string>

#include "cli/clock.h"

namespace bolide {

class ProgressLine {
 public:
  // Does nothing unless `wanted` and standard error is a terminal that can rewrite a line.
  ProgressLine(bool wanted, int64_t total, int64_t already_done);
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Redraws a few times a second at most. `tokens`: made in this run.
  void update(int64_t done, int64_t failed, int64_t tokens);
  // Takes the line away, so that something else can be printed; the next update draws it again.
  void clear();

 private:
  bool active_;
  int64_t total_, already_done_;
  Clock::time_point begin_ = Clock::now();
  Clock::time_point drawn_ = begin_;
  bool visible_ = false;
};

// One line that the next one replaces, for runs without a count.
class Progress {
 public:
  explicit Progress(bool wanted);
  ~Progress() { show(""); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void show(const std::string& text) const;

 private:
  bool shown_;
};

// "0:07", "12:34", "1:02:03"
std::string clock_text(double seconds);

// "1,234 of 10,000 (12 %), 3 failed | 1,234 tok/s | ETA 1:23"; the parts that are not known yet are left out.
std::string progress_text(int64_t done, int64_t total, int64_t failed, int64_t done_now, int64_t tokens, double seconds);

}  // namespace bolide
