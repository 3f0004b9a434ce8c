// The decode kernel's logits of several sequences against float32's, beside those of the ops one by one.
#pragma once

#include "decode_errors.h"

namespace bolide::cuda_test {

// Of the step for the last positions of these sequences. ops: one by one.
inline std::vector<std::vector<float>> logits_of(Backend& backend, StepModel& model, const std::vector<int32_t>& which, bool ops,
                                                 const Positions& last) {
  last_step(model, which, last);
  run(backend, model.each, ops);
  std::vector<std::vector<float>> all;
  for (size_t i = 0; i < which.size(); ++i) all.push_back(model.logits(static_cast<int32_t>(i)));
  return all;
}
inline void check_several(const char* name, const StepModelOptions& options, const std::vector<std::vector<int32_t>>& together,
                          const Positions& last) {
  const auto bf16 = gpu(name);
  if (!bf16) return;
  const auto f32 = gpu(name, DType::f32);
  StepModel model(*bf16, options), exact(*f32, options);
  if (!runs_as_one_kernel(name, *bf16, model)) return;
  run_contexts(*bf16, model, last);
  run_contexts(*f32, exact, last);
  std::vector<std::vector<float>> seen[2] = {std::vector<std::vector<float>>(last.size()), std::vector<std::vector<float>>(last.size())};
  for (const std::vector<int32_t>& which : together) {
    CAPTURE(which);
    const auto expected = logits_of(*f32, exact, which, true, last), ops = logits_of(*bf16, model, which, true, last);
    REQUIRE(bf16->step_form(model.each, 1).text.rfind("one kernel", 0) == 0);
    const auto kernel = logits_of(*bf16, model, which, false, last);
    for (size_t i = 0; i < which.size(); ++i) {
      const double by_ops = distance(ops[i], expected[i]), by_kernel = distance(kernel[i], expected[i]);
      CAPTURE(which, i, by_ops, by_kernel);
      CHECK(by_kernel < 1.5 * by_ops);
      CHECK(by_kernel < 0.05);
      std::vector<float>& before = seen[which.size() > 4][static_cast<size_t>(which[i])];  // beside others
      if (!before.empty()) CHECK(same_bits(kernel[i], before));
      before = kernel[i];
    }
  }
}

}  // namespace bolide::cuda_test
