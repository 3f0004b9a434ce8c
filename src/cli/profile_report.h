// What `bolide profile` prints about one kind of step.
#pragma once

#include <string>

#include "cli/bench_run.h"
#include "cli/json.h"
#include "exec/step_profile.h"

namespace bolide {

struct ProfiledStep {
  bool prefill = false;
  int32_t rows = 1;   // token rows of the step
  int32_t batch = 1;  // sequences
  int32_t depth = 0;  // tokens of each in the cache before the step
  StepProfile profile;
  ReadBandwidth bandwidth;
  DeviceState before, after;
  std::string label() const;  // "decode of 8 sequences at depth 512", "prefill of 512 tokens"
};

struct ProfileContext {
  std::string model, command_line, started;
  const EngineInfo& info;
  int32_t repetitions = 0;
  double temperature = 0;  // of the draw; 0: greedy
  int threads = 0;  // 0: not a CPU
};

// A heading, a Markdown table with a row per op, and the step as a whole below it.
std::string profile_table(const ProfileContext& context, const ProfiledStep& step);

// Keys are a contract with scripts: additions only.
Json profile_record(const ProfileContext& context, const ProfiledStep& step);

}  // namespace bolide
