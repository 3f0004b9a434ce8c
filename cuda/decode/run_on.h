// Which steps the host launches, and which it leaves to the decode kernel that is under way.
//
// A kernel that has drawn its token goes on to the next step where that is of its kind and has been posted by then: inputs uploaded beside
// it, then the step's number (steps.cuh). So a step that is run while the kernel of the step before works is posted, not launched. Whether
// the kernel takes it over it says together with its token; where it does not, the host launches the step when it learns so. At most one
// posted step is undecided. Whatever else is put on the stream has to come behind the steps so far: before it, leave() sees to that.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "cuda/decode/parameters.h"

namespace bolide {

// A step as the kernel gets it, and how to launch that.
struct DecodeLaunch {
  decode::Parameters parameters;
  int32_t rows;  // at most, and at most kMaxRows
  void (*launch)(const decode::Parameters& parameters, cudaStream_t stream);
};
// Whether one launch can run both: all but inputs and results are the same.
bool same_kernel(const DecodeLaunch& a, const DecodeLaunch& b);

// Drawn tokens by row, -1 where there is none.
using DrawnIds = std::array<int32_t, decode::kMaxRows>;
struct StepOutcome {
  decode::StepEnd end;
  DrawnIds ids;
};

// The device as RunOn needs it; tests have one of their own.
class RunOnDevice {
 public:
  virtual ~RunOnDevice() = default;
  // Enqueues the kernel for a step.
  virtual void launch(const DecodeLaunch& step, uint32_t number) = 0;
  // Says that a kernel under way may take the step over, behind the uploads so far.
  virtual void post(const DecodeLaunch& step, uint32_t number) = 0;
  // A step that is not run: its tokens are -1.
  virtual void leave_out(const DecodeLaunch& step) = 0;
  // Of one of the last kOutcomes steps, once the kernel has said it.
  virtual std::optional<StepOutcome> outcome(uint32_t number) = 0;
  // Whether all enqueued work has ended. Throws what the device found wrong.
  virtual bool idle() = 0;
};

class RunOn {
 public:
  explicit RunOn(RunOnDevice& device) : device_(device) {}

  // Runs the step behind all work so far.
  void run(const DecodeLaunch& step);
  // Before anything else is put on the stream: a posted step is with a kernel, or launched, or wanted by nobody when it returns.
  void leave();
  // The number under which to wait for the last step, where `out` is its result and nothing has been put on the stream since.
  std::optional<uint32_t> number_of(const void* out) const;
  // Waits for the step's tokens alone, and launches the step behind it where that is needed; all -1 where the step was left out, or where
  // its logits hold no token.
  DrawnIds wait(uint32_t number);

  int64_t launches() const { return launches_; }
  int64_t steps() const { return steps_; }
  int64_t left_out() const { return left_outs_; }

 private:
  StepOutcome await(uint32_t number);
  void launch();
  // Finds out what has become of the posted step. Waits for the token of the step before.
  void decide();

  RunOnDevice& device_;
  DecodeLaunch last_{};     // the last step
  uint32_t number_ = 0;     // and its number
  bool last_work_ = false;  // it is the last on the stream
  bool posted_ = false;     // and undecided
  std::optional<uint32_t> left_out_;
  int64_t launches_ = 0, steps_ = 0, left_outs_ = 0;
};

}  // namespace bolide
