#include "exec/step_profile.h"

#include <algorithm>

#include "core/error.h"

namespace bolide {
namespace {

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

// project_add serves two places of a layer: the attention output comes after attention, the MLP's down product after norm_gate_up.
std::string place_name(const Step& step, size_t index) {
  const std::string name(op_name(step.ops[index]));
  if (!std::holds_alternative<ProjectAddArgs>(step.ops[index]) || index == 0) return name;
  return name + (std::holds_alternative<AttentionArgs>(step.ops[index - 1]) ? " (o)" : " (down)");
}

}  // namespace

StepShape shape_of(const Batch& batch) {
  StepShape shape;
  shape.logit_rows = batch.logit_row_count();
  for (size_t s = 0; s < batch.kv_lengths.size(); ++s)
    shape.sequences.push_back({batch.query_offsets[s + 1] - batch.query_offsets[s], batch.kv_lengths[s]});
  return shape;
}

StepProfile step_profile(const Step& step, const StepShape& shape, std::span<const OpTime> times, std::vector<double> whole) {
  BOLIDE_CHECK(times.size() == step.ops.size() && !whole.empty());
  StepProfile profile;
  profile.step_seconds = median_of(std::move(whole));
  std::vector<std::vector<double>> calls;
  for (size_t i = 0; i < step.ops.size(); ++i) {
    const std::string name = place_name(step, i);
    auto at = std::find_if(profile.ops.begin(), profile.ops.end(), [&](const OpProfile& op) { return op.name == name; });
    if (at == profile.ops.end()) {
      at = profile.ops.insert(at, OpProfile{name});
      calls.emplace_back();
    }
    const OpTraffic traffic = op_traffic(step.ops[i], shape);
    ++at->calls;
    at->kernels += times[i].kernels;
    at->seconds += times[i].seconds;
    at->traffic += traffic;
    calls[static_cast<size_t>(at - profile.ops.begin())].push_back(times[i].seconds);
    profile.ops_seconds += times[i].seconds;
    profile.kernels += times[i].kernels;
    profile.traffic += traffic;
  }
  for (size_t i = 0; i < calls.size(); ++i) profile.ops[i].median = median_of(std::move(calls[i]));
  return profile;
}

}  // namespace bolide
