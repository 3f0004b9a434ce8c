// A lost dependency: where one block's words do not come, the step ends in an error that names block, layer and phase of who waited for
// them, within seconds; and the next step is as if nothing had been.
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "catch.h"
#include "core/error.h"
#include "decode_model.h"
#include "gpu.h"
#include "probed_kernels.h"
#include "probed_steps.h"

using namespace bolide;
using namespace bolide::cuda_test;

namespace {

constexpr int kLayers = 3;
// A block of the third key/value head's group where there are eight, else of the first's; it has a part of every phase.
constexpr int kLoser = 37, kUnevenLoser = 20;
constexpr double kMostSeconds = 8.0;

struct Loss {
  int layer;
  decode::Phase phase;
  // Of the earliest that waits in vain: its layer (kLayers: the head), its phase, and whether it is of the loser's group.
  int waiting_layer;
  decode::Phase waiting;
  bool in_group = false;
};
const std::vector<Loss> kLosses{
    {1, decode::qkv_product, 1, decode::attention, true},     {0, decode::attention, 0, decode::combination, true},
    {2, decode::combination, 2, decode::output_product},      {0, decode::output_product, 0, decode::gate_up_product},
    {1, decode::gate_up_product, 1, decode::down_product},    {1, decode::down_product, 2, decode::qkv_product},
    {2, decode::down_product, kLayers, decode::head_product}, {kLayers, decode::head_product, kLayers, decode::head_product},
};

// group: blocks that share a key/value head.
template <class Run>
void check_loss(ProbedSteps& steps, const Loss& loss, int loser, int group, const char* what, Run&& run) {
  steps.lose(decode::loss_of(loser, loss.layer, loss.phase));
  std::string text;
  const double seconds = seconds_of([&] {
    try {
      run();
    } catch (const Error& error) {
      text = error.what();
    }
  });
  steps.lose(0);
  std::printf("lost: %s, %s of layer %d: %.2f s\n", what, decode::kPhaseNames[loss.phase], loss.layer, seconds);
  CAPTURE(what, loss.layer, decode::kPhaseNames[loss.phase], text);
  CHECK(seconds < kMostSeconds);
  REQUIRE(text.rfind("the decode kernel waited in vain in block ", 0) == 0);
  const int block = std::stoi(text.substr(std::string("the decode kernel waited in vain in block ").size()));
  CHECK(block >= 0);
  CHECK(block < decode::kBlocks);
  if (loss.in_group) CHECK(block / group == loser / group);
  const std::string layer = loss.waiting_layer < kLayers ? ", layer " + std::to_string(loss.waiting_layer) : "";
  CHECK(text.find("block " + std::to_string(block) + layer + ", phase '" + decode::kPhaseNames[loss.waiting] + "'") != std::string::npos);
  CHECK(text.find("BOLIDE_DECODE_KERNEL=0") != std::string::npos);
}

const Positions kLast{700, 31, 130, 0, 64};  // the sequences' last positions, whose steps are run

// The row's step by kernels that go on: with the first step's words lost, and nothing to wait for behind it.
void check_going_on(ProbedSteps& steps, StepModel& model, const Step& step, const StepResults& expected, int loser, int group) {
  Step alone = step;
  alone.plain_sampling = alone.one_row_each = true;
  for (const Loss& loss : kLosses) {
    if (loss.layer == 1 || loss.phase == decode::output_product) continue;
    check_loss(steps, loss, loser, group, "going on", [&] { steps.run_on(alone, 20, 0); });
    check_loss(steps, loss, loser, group, "the last of a kernel's steps", [&] { steps.run_on(alone, 1, 0); });
    steps.run_on(alone, 20, 0);
    REQUIRE(StepResults(model, 1).same_bits_as(expected));
  }
}
// The same of several rows, whose tokens are each step's own.
void check_going_on_of_several(Backend& backend, ProbedSteps& steps, StepModel& model, const std::vector<int32_t>& which, int loser,
                               int group) {
  TokenChain chain(backend, model, last_step(model, which, kLast, warm_rows(which.size())), which.size());
  const std::vector<int32_t> expected = chain.expected(steps, 20);
  for (const Loss& loss : kLosses) {
    if (loss.layer == 1 || loss.phase == decode::output_product || loss.phase == decode::combination) continue;
    chain.begin(steps);
    check_loss(steps, loss, loser, group, "several rows going on", [&] { chain.go_on(steps, 20, 0); });
    chain.begin(steps);
    chain.go_on(steps, 20, 0);
    REQUIRE(chain.tokens() == expected);
  }
}

// Steps of one row, three and five, each with each of kLosses that is not left out, and one behind it that is sound; then going on.
void check_losses(Backend& backend, StepModel& model, const ModelDims& dims, int loser,
                  const std::function<bool(size_t rows, const Loss&)>& left_out) {
  ProbedSteps losing(model.step.capacity, dims, losing_shapes());
  const int group = decode::kBlocks / dims.kv_heads;
  for (const std::vector<int32_t>& which : std::vector<std::vector<int32_t>>{{0}, {0, 1, 2}, {4, 3, 2, 1, 0}}) {
    const Step& step = last_step(model, which, kLast);
    backend.run_step(step);
    backend.sync();
    const StepResults expected(model, which.size());
    losing.run(step);
    REQUIRE(StepResults(model, which.size()).same_bits_as(expected));
    const char* what = which.size() == 1 ? "one row" : which.size() == 3 ? "three rows" : "five rows";
    for (const Loss& loss : kLosses) {
      if (left_out(which.size(), loss)) continue;
      check_loss(losing, loss, loser, group, what, [&] { losing.run_losing(step); });
      losing.run(step);
      REQUIRE(StepResults(model, which.size()).same_bits_as(expected));
    }
    // Wider shapes' kernels end with every step.
    if (dims.hidden > decode::kStageColumns) continue;
    if (which.size() == 1)
      check_going_on(losing, model, step, expected, loser, group);
    else
      check_going_on_of_several(backend, losing, model, which, loser, group);
  }
}

// Of a shape that is not whole (shape.cuh).
void check_losses_of(const char* name, const ModelDims& dims) {
  const auto backend = gpu(name);
  if (!backend) return;
  StepModel model(*backend, several_model(kLast, dims));
  if (!runs_as_one_kernel(name, *backend, model)) return;
  run_contexts(*backend, model, kLast);
  check_losses(*backend, model, dims, kUnevenLoser, [](size_t rows, const Loss& loss) {
    return rows == 3 && loss.phase != decode::attention && loss.phase != decode::gate_up_product;  // as with five
  });
}

}  // namespace

TEST_CASE("decode kernel: lost words end in an error, and the next step is sound") {
  const char* name = "decode kernel: lost words end in an error, and the next step is sound";
  const auto backend = gpu(name);
  if (!backend) return;
  StepModelOptions options = several_model(kLast);
  options.dims.layers = kLayers;
  StepModel model(*backend, options);
  if (!runs_as_one_kernel(name, *backend, model)) return;
  run_contexts(*backend, model, kLast);
  check_losses(*backend, model, options.dims, kLoser, [](size_t rows, const Loss& loss) {
    return rows > 1 && (loss.phase == decode::combination || loss.phase == decode::output_product ||
                        (loss.phase == decode::down_product && loss.layer + 1 < kLayers));  // like others
  });
  // The backend whose memory that was, with edges of its own.
  model.fill_each({0}, {kLast[0]}, std::vector<SamplingSpec>(1));
  backend->run_step(model.single);
  backend->sync();
}

TEST_CASE("decode kernel: lost words of shapes that do not fill stages end in an error") {
  check_losses_of("decode kernel: lost words of shapes that do not fill stages end in an error",
                  GENERATE(ModelDims{896, 4864, kLayers, 14, 2, 64, 1096}, ModelDims{576, 1536, kLayers, 9, 3, 64, 1096}));
}

TEST_CASE("decode kernel: lost words of a shape with heads of 256 end in an error") {
  check_losses_of("decode kernel: lost words of a shape with heads of 256 end in an error", {2048, 16384, kLayers, 8, 1, 256, 1096});
}
