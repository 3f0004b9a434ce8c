// Runs a reference checkpoint's prompt and greedy continuation through an Executor, in pieces of any size and in any company.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "exec/executor.h"
#include "exec/open_model.h"
#include "reference_checkpoint.h"

namespace bolide::test {

struct RunPlan {
  int32_t prefill_rows = 512;  // prompt tokens a step
  int32_t chunk_tokens = 64;   // C
  DType kv_dtype = DType::f32;
  int companions = 0;  // other sequences in every step, of lengths and ids of their own
  int greedy_steps = 48;
  int threads = 1;
  Backend* backend = nullptr;  // null: the CPU with so many threads
};

// Largest absolute differences from the reference, and the first thing that is plainly wrong.
struct Deviation {
  double prompt_logprob = 0;
  double greedy_logprob = 0;  // of the chosen token and of the best five
  std::string wrong_token;    // "step 3: 17 instead of 4 (margin 0.2)", empty when all tokens agree
  double largest() const { return std::max(prompt_logprob, greedy_logprob); }
};

// Feeds the reference's own tokens, so that every greedy step is comparable. Tokens are compared where the margin exceeds
// `margin_above`.
Deviation run_reference(const OpenModel& model, const ModelWeights& weights, const Reference& reference, const RunPlan& plan,
                        double margin_above = 1e-3);

// Where the residual stream first leaves the reference by more than `tolerance`: "layer 3 after attention: 0.12 instead of 0.34 (value 2)";
// empty where it does not.
std::string first_divergence(const OpenModel& model, const ModelWeights& weights, const Reference& reference, double tolerance);

}  // namespace bolide::test
