// Where a step's time goes: each op's time beside the bytes and operations it cannot do without.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/traffic.h"
#include "exec/batch.h"

namespace bolide {

// All ops of one kind in a step: norm_qkv of every layer.
struct OpProfile {
  std::string name;     // "norm_qkv", "project_add (o)", "project_add (down)"
  int32_t calls = 0;    // per step
  int32_t kernels = 0;  // per step; 0: the backend has none
  double seconds = 0;   // per step: the sum of the calls' medians
  double median = 0;    // of the calls
  OpTraffic traffic;    // per step
};

struct StepProfile {
  std::vector<OpProfile> ops;  // in the order of their first call
  double step_seconds = 0;     // median of whole steps run as always, from their start to their results
  double ops_seconds = 0;      // sum of `ops`
  int32_t kernels = 0;
  OpTraffic traffic;  // of the step
  StepForm form;      // how the backend ran the whole steps
};

StepShape shape_of(const Batch& batch);

// times: of step.ops, in their order. whole: seconds of whole steps, not empty.
StepProfile step_profile(const Step& step, const StepShape& shape, std::span<const OpTime> times, std::vector<double> whole);

}  // namespace bolide
