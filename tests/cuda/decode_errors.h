// The decode kernel's logits against float32's, beside those of the ops one by one.
#pragma once

#include <vector>

#include "catch.h"
#include "decode_model.h"
#include "gpu.h"

namespace bolide::cuda_test {

inline void run(Backend& backend, const Step& step, bool ops) {
  if (ops)
    backend.Backend::run_step(step);
  else
    backend.run_step(step);
  backend.sync();
}
// Logits after the last of `positions` tokens: those before it in pieces, it alone. ops: one by one.
inline std::vector<float> last_logits(Backend& backend, StepModel& model, int32_t positions, bool ops) {
  run_context(backend, model, positions - 1);
  model.fill(positions - 1, 1);
  run(backend, model.single, ops);
  return model.logits();
}

// The kernel's logits may be as far from float32's as those of the ops one by one, which round at the same places.
inline void check_errors(const char* name, const StepModelOptions& options, const std::vector<int32_t>& lengths) {
  const auto bf16 = gpu(name);
  if (!bf16) return;
  const auto f32 = gpu(name, DType::f32);
  StepModel model(*bf16, options), exact(*f32, options);
  if (!runs_as_one_kernel(name, *bf16, model)) return;
  CHECK(f32->step_form(exact.single, 1).text.find("takes bfloat16 activations") != std::string::npos);
  for (const int32_t positions : lengths) {
    const std::vector<float> expected = last_logits(*f32, exact, positions, true);
    const double ops = distance(last_logits(*bf16, model, positions, true), expected);
    const double kernel = distance(last_logits(*bf16, model, positions, false), expected);
    CAPTURE(positions, ops, kernel);
    CHECK(ops > 0.0);
    CHECK(kernel < 1.5 * ops);
    CHECK(kernel < 0.05);
  }
}

}  // namespace bolide::cuda_test
