// The decode kernel's blocks wait for each other's words alone: whatever the times at which its warps come to their phases, and the stream
// to its stages, tokens and logits are the same bits.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "catch.h"
#include "decode_model.h"
#include "gpu.h"
#include "probed_kernels.h"
#include "probed_steps.h"

using namespace bolide;
using namespace bolide::cuda_test;

namespace {

const Positions kLast{1279, 31, 700, 513, 0, 999, 64, 33};  // the sequences' last positions, whose steps are run

StepModelOptions three_layers() {
  StepModelOptions options = several_model(kLast);
  options.dims.layers = 3;
  options.window = 300;
  return options;
}

// A step of these sequences with delays, forty times, against the same without, which it returns.
StepResults check_delays(Backend& backend, StepModel& model, ProbedSteps& delayed, const Step& step, const std::vector<int32_t>& which) {
  backend.run_step(step);
  backend.sync();
  StepResults expected(model, which.size());
  for (int i = 0; i < 40; ++i) {
    delayed.run(step);
    CAPTURE(which, i);
    REQUIRE(StepResults(model, which.size()).same_bits_as(expected));
  }
  return expected;
}
// Kernels that go on from step to step with several rows, with and without delays, against a launch for every step.
void check_chain(Backend& backend, StepModel& model, ProbedSteps& delayed, ProbedSteps& prompt, const std::vector<int32_t>& which) {
  constexpr int kTimes = 50;
  TokenChain chain(backend, model, last_step(model, which, kLast, warm_rows(which.size())), which.size());
  const std::vector<int32_t> expected = chain.expected(prompt, kTimes);
  for (ProbedSteps* steps : {&delayed, &prompt}) {
    for (const int late : {0, 150, 400}) {
      int64_t launches = 0;
      for (int i = 0; i < 8; ++i) {
        chain.begin(*steps);
        launches += chain.go_on(*steps, kTimes, late);
        CAPTURE(which, steps == &prompt, late, i);
        REQUIRE(chain.tokens() == expected);
      }
      std::printf("going on: %d steps of %zu rows%s, up to %d us late, in %lld launches\n", 8 * kTimes, which.size(),
                  steps == &prompt ? "" : " with delays", late, static_cast<long long>(launches));
      if (late == 0) CHECK(launches < 4 * kTimes);
    }
  }
}
void check_delays_of_several(Backend& backend, StepModel& model, ProbedSteps& delayed) {
  for (const std::vector<int32_t>& which : std::vector<std::vector<int32_t>>{{0, 1, 2, 3}, {7, 6, 5, 4, 3, 2, 1, 0}, {3, 1}}) {
    const Step& step = last_step(model, which, kLast);
    REQUIRE(backend.step_form(step, 1).text.rfind("one kernel", 0) == 0);
    check_delays(backend, model, delayed, step, which);
  }
}

}  // namespace

TEST_CASE("decode kernel: random delays change no bit") {
  const char* name = "decode kernel: random delays change no bit";
  const auto backend = gpu(name);
  if (!backend) return;
  const StepModelOptions options = three_layers();
  StepModel model(*backend, options);
  if (!runs_as_one_kernel(name, *backend, model)) return;
  run_contexts(*backend, model, kLast);
  ProbedSteps delayed(model.step.capacity, options.dims, delayed_shapes()),
      prompt(model.step.capacity, options.dims, decode::compiled_shapes());
  for (const std::vector<int32_t>& which :
       std::vector<std::vector<int32_t>>{{0}, {0, 1, 2, 3}, {7, 6, 5, 4, 3, 2, 1, 0}, {3, 1}, {2}, {1, 0, 2, 5, 4}, {1, 0, 2}}) {
    const Step& step = last_step(model, which, kLast);
    backend->run_step(step);
    backend->sync();
    const StepResults expected(model, which.size());
    double plain = 1e9, slow = 1e9;
    for (int i = 0; i < 40; ++i) {
      plain = std::min(plain, seconds_of([&] {
                         backend->run_step(step);
                         backend->sync();
                       }));
      slow = std::min(slow, seconds_of([&] { delayed.run(step); }));
      CAPTURE(which, i);
      REQUIRE(StepResults(model, which.size()).same_bits_as(expected));
    }
    if (which.size() == 1) {
      Step alone = step;
      alone.plain_sampling = alone.one_row_each = true;
      for (ProbedSteps* steps : {&delayed, &prompt}) {
        for (const int late : {0, 60, 150, 400}) {
          int64_t launches = 0;
          for (int i = 0; i < 10; ++i) {
            launches += steps->run_on(alone, 60, late);
            CAPTURE(steps == &prompt, late, i);
            REQUIRE(StepResults(model, 1).same_bits_as(expected));
          }
          std::printf("going on: 600 steps%s, up to %d us late, in %lld launches\n", steps == &prompt ? "" : " with delays", late,
                      static_cast<long long>(launches));
          if (late == 0) CHECK(launches < 400);
        }
      }
    }
    if (which.size() > 1) check_chain(*backend, model, delayed, prompt, which);
    CHECK(slow > 1.3 * plain);  // the delays are there
  }
}

TEST_CASE("decode kernel: random delays change no bit of several sequences of a wider shape") {
  const char* name = "decode kernel: random delays change no bit of several sequences of a wider shape";
  const auto backend = gpu(name);
  if (!backend) return;
  StepModelOptions options = three_layers();
  options.dims = {2048, 8192, 3, 32, 8, 64, 1096};
  StepModel model(*backend, options);
  if (!runs_as_one_kernel(name, *backend, model)) return;
  run_contexts(*backend, model, kLast);
  ProbedSteps delayed(model.step.capacity, options.dims, delayed_shapes());
  check_delays_of_several(*backend, model, delayed);
}

TEST_CASE("decode kernel: random delays change no bit of shapes that do not fill stages") {
  const char* name = "decode kernel: random delays change no bit of shapes that do not fill stages";
  const auto backend = gpu(name);
  if (!backend) return;
  StepModelOptions options = three_layers();
  options.dims = GENERATE(ModelDims{896, 4864, 3, 14, 2, 64, 1096}, ModelDims{576, 1536, 3, 9, 3, 64, 1096});
  StepModel model(*backend, options);
  if (!runs_as_one_kernel(name, *backend, model)) return;
  run_contexts(*backend, model, kLast);
  ProbedSteps delayed(model.step.capacity, options.dims, delayed_shapes());
  check_delays_of_several(*backend, model, delayed);
  ProbedSteps prompt(model.step.capacity, options.dims, decode::compiled_shapes());
  for (const std::vector<int32_t>& which : std::vector<std::vector<int32_t>>{{0, 1, 2}, {7, 6, 5, 4, 3, 2, 1, 0}})
    check_chain(*backend, model, delayed, prompt, which);
  for (const int32_t which : {0, 1, 4}) {
    Step step = last_step(model, {which}, kLast);
    CAPTURE(options.dims.hidden);
    const StepResults expected = check_delays(*backend, model, delayed, step, {which});
    step.plain_sampling = step.one_row_each = true;
    for (const int late : {0, 150}) {
      delayed.run_on(step, 100, late);
      CAPTURE(options.dims.hidden, which, late);
      REQUIRE(StepResults(model, 1).same_bits_as(expected));
    }
  }
}

TEST_CASE("decode kernel: random delays change no bit of shapes with heads of 256") {
  const char* name = "decode kernel: random delays change no bit of shapes with heads of 256";
  const auto backend = gpu(name);
  if (!backend) return;
  StepModelOptions options = three_layers();
  options.dims = GENERATE(ModelDims{2048, 16384, 3, 8, 1, 256, 1096}, ModelDims{3072, 24576, 3, 16, 16, 256, 1096});
  StepModel model(*backend, options);
  if (!runs_as_one_kernel(name, *backend, model)) return;
  run_contexts(*backend, model, kLast);
  ProbedSteps delayed(model.step.capacity, options.dims, delayed_shapes());
  check_delays_of_several(*backend, model, delayed);
  for (const int32_t which : {0, 1, 4, 2}) {
    const Step& step = last_step(model, {which}, kLast);
    CAPTURE(options.dims.hidden);
    check_delays(*backend, model, delayed, step, {which});
  }
}

// For BOLIDE_SOAK_SECONDS (20): what a hundred launches do not show.
TEST_CASE("decode kernel: random delays for a long time", "[.delays]") {
  const char* name = "decode kernel: random delays for a long time";
  const auto backend = gpu(name);
  if (!backend) return;
  const char* set = std::getenv("BOLIDE_SOAK_SECONDS");
  const double seconds = set ? std::stod(set) : 20.0;
  const StepModelOptions options = three_layers();
  StepModel model(*backend, options);
  if (!runs_as_one_kernel(name, *backend, model)) return;
  run_contexts(*backend, model, kLast);
  ProbedSteps delayed(model.step.capacity, options.dims, delayed_shapes());
  const std::vector<std::vector<int32_t>> sets{{0, 1, 2, 3}, {7, 6, 5, 4, 3, 2, 1, 0}, {3, 1}, {2}};
  for (const std::vector<int32_t>& which : sets) {
    const Step& step = last_step(model, which, kLast);
    backend->run_step(step);
    backend->sync();
    const StepResults expected(model, which.size());
    int64_t runs = 0, wrong = 0;
    for (double spent = 0.0; spent < seconds / static_cast<double>(sets.size()); ++runs) {
      spent += seconds_of([&] {
        delayed.run(step);
        const StepResults got(model, which.size());
        if (got.same_bits_as(expected)) return;
        ++wrong;
        for (size_t row = 0; row < which.size(); ++row)
          std::printf("delays: launch %lld, row %zu of %zu: logits %s\n", static_cast<long long>(runs), row, which.size(),
                      same_bits(got.logits[row], expected.logits[row]) ? "as without" : "differ");
      });
    }
    std::printf("delays: %zu rows: %lld launches, %lld of them wrong\n", which.size(), static_cast<long long>(runs),
                static_cast<long long>(wrong));
    CHECK(wrong == 0);
  }
}
