// Models and steps that the decode kernel runs, for tests of it.
#pragma once

#include <algorithm>
#include <cstdio>
#include <string>
#include <variant>
#include <vector>

#include "catch.h"
#include "cuda/decode/parameters.h"
#include "step_model.h"

namespace bolide::cuda_test {

// Two layers of a shape that the kernel is compiled for, and a small vocabulary.
inline StepModelOptions decode_model(const ModelDims& dims = {1024, 3072, 2, 16, 8, 128, 1096}) {
  StepModelOptions options;
  options.dims = dims;
  options.rows = 64;
  options.chunk = 64;
  options.chunks = 20;
  options.vectors = true;
  return options;
}
// For sequences with these last positions.
using Positions = std::vector<int32_t>;
inline StepModelOptions several_model(const Positions& last, const ModelDims& dims = decode_model().dims) {
  StepModelOptions options = decode_model(dims);
  options.sequences = static_cast<int32_t>(last.size());
  options.chunks = *std::max_element(last.begin(), last.end()) / options.chunk + 1;
  return options;
}

// Only another GPU, or a build without code for this one, may run such a model's step in another way; tests then say so and end.
inline bool runs_as_one_kernel(const char* name, Backend& backend, StepModel& model) {
  model.fill(0, 1);  // step_form runs it
  const std::string text = backend.step_form(model.single, 1).text;
  if (text.rfind("one kernel", 0) == 0) return true;
  CAPTURE(text);
  REQUIRE(text.find("needs") != std::string::npos);
  std::printf("skipped: %s (the step runs as %s)\n", name, text.c_str());
  return false;
}

// The tokens before position `end` of a sequence into the cache, in pieces.
inline void run_context(Backend& backend, StepModel& model, int32_t end, int32_t sequence = 0) {
  for (int32_t first = 0; first < end; first += 64) {
    model.fill(first, std::min(64, end - first), {}, sequence);
    backend.Backend::run_step(model.step);
  }
}
inline void run_contexts(Backend& backend, StepModel& model, const Positions& last) {
  for (size_t s = 0; s < last.size(); ++s) run_context(backend, model, last[s], static_cast<int32_t>(s));
}
// The step for the last positions of these sequences. sampling: greedy where it is empty.
inline Step& last_step(StepModel& model, const std::vector<int32_t>& which, const Positions& last,
                       std::vector<SamplingSpec> sampling = {}) {
  std::vector<int32_t> positions;
  for (const int32_t s : which) positions.push_back(last[static_cast<size_t>(s)]);
  sampling.resize(which.size());
  model.fill_each(which, positions, sampling);
  model.each.capacity.tokens = which.size() <= decode::kFewerRows ? decode::kFewerRows : decode::kMaxRows;
  return which.size() == 1 ? model.single : model.each;
}

// What a step of one row at `position` draws in the kernel, and what sample() draws of its logits.
struct DrawnTokens {
  int32_t by_kernel, by_sample;
};
inline DrawnTokens draw_both_ways(Backend& backend, StepModel& model, int32_t position, const SamplingSpec& spec) {
  DrawnTokens drawn{};
  model.fill(position, 1, spec);
  model.single.plain_sampling = true;
  backend.run_step(model.single);
  backend.sync();
  drawn.by_kernel = model.token();
  backend.sample(std::get<SampleArgs>(model.single.ops.back()));
  backend.sync();
  drawn.by_sample = model.token();
  return drawn;
}

}  // namespace bolide::cuda_test
