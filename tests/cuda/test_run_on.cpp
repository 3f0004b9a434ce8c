// Who launches which step, with a device that plays the decode kernel. No GPU needed.
#include <algorithm>
#include <random>
#include <vector>

#include "catch.h"
#include "cuda/decode/run_on.h"

using namespace bolide;
using decode::StepEnd;

namespace {

// One kernel at a time works on a step; each question for an outcome is a moment in its life.
class PlayedDevice final : public RunOnDevice {
 public:
  int moments_a_step = 3;
  std::vector<uint32_t> stops;  // steps that draw a stop id
  std::vector<uint32_t> ran;    // in order; 0: other work
  std::vector<uint32_t> left;   // left out
  int launches = 0, most_steps = 1 << 30;

  void launch(const DecodeLaunch&, uint32_t number) override {
    ++launches;
    stream_.push_back(number);
  }
  void post(const DecodeLaunch&, uint32_t number) override { posted_ = number; }
  void leave_out(const DecodeLaunch&) override { left.push_back(posted_); }
  std::optional<StepOutcome> outcome(uint32_t number) override {
    pass();
    if (ends_.size() <= number || !ends_[number]) return std::nullopt;
    StepOutcome outcome{*ends_[number], {}};
    outcome.ids.fill(token(number));
    return outcome;
  }
  bool idle() override { return !working_ && stream_.empty(); }
  void other_work() { stream_.push_back(0); }
  void finish() {
    while (!idle()) pass();
  }
  static int32_t token(uint32_t number) { return static_cast<int32_t>(7 * number); }

 private:
  void pass() {
    if (!working_) {
      if (stream_.empty()) return;
      working_ = true;
      number_ = stream_.front();
      stream_.erase(stream_.begin());
      moments_ = steps_ = 0;
    }
    if (++moments_ < moments_a_step) return;
    ran.push_back(number_);
    working_ = false;
    if (number_ == 0) return;
    ends_.resize(std::max<size_t>(ends_.size(), number_ + 1));
    const bool stop = std::find(stops.begin(), stops.end(), number_) != stops.end(), there = posted_ == number_ + 1;
    const bool on = !stop && there && ++steps_ < most_steps;
    ends_[number_] = stop ? StepEnd::stops : on ? StepEnd::goes_on : StepEnd::leaves;
    if (!on) return;
    ++number_;
    working_ = true;
    moments_ = 0;
  }
  std::vector<uint32_t> stream_;
  std::vector<std::optional<StepEnd>> ends_;
  uint32_t number_ = 0, posted_ = 0;
  bool working_ = false;
  int moments_ = 0, steps_ = 0;
};

DecodeLaunch step_of(SampledToken* out, int32_t vocab = 100) {
  DecodeLaunch step{};
  step.parameters.out = out;
  step.parameters.vocab = vocab;
  return step;
}

std::vector<uint32_t> numbers(uint32_t from, uint32_t to) {
  std::vector<uint32_t> all;
  for (uint32_t i = from; i <= to; ++i) all.push_back(i);
  return all;
}

}  // namespace

TEST_CASE("run on: a kernel takes over step after step, one of them ahead") {
  PlayedDevice device;
  RunOn run_on(device);
  SampledToken places[2];
  for (uint32_t n = 1; n <= 20; ++n) {
    run_on.run(step_of(&places[n % 2]));
    REQUIRE(run_on.number_of(&places[n % 2]) == n);
    REQUIRE_FALSE(run_on.number_of(&places[(n + 1) % 2]));
    if (n > 1) REQUIRE(run_on.wait(n - 1)[0] == device.token(n - 1));
  }
  REQUIRE(run_on.wait(20)[0] == device.token(20));
  CHECK(device.launches == 1);
  CHECK(run_on.launches() == 1);
  CHECK(run_on.steps() == 20);
  CHECK(device.ran == numbers(1, 20));
}

TEST_CASE("run on: a step that the kernel did not wait for is launched") {
  PlayedDevice device;
  RunOn run_on(device);
  SampledToken out;
  SECTION("when it comes too late") {
    run_on.run(step_of(&out));
    REQUIRE(run_on.wait(1)[0] == device.token(1));
    run_on.run(step_of(&out));
    REQUIRE(run_on.wait(2)[0] == device.token(2));
    CHECK(device.launches == 2);
  }
  SECTION("when it is of another kind") {
    run_on.run(step_of(&out));
    run_on.run(step_of(&out, 200));
    CHECK(device.launches == 2);
    REQUIRE(run_on.wait(1)[0] == device.token(1));
    REQUIRE(run_on.wait(2)[0] == device.token(2));
  }
  SECTION("when a launch has had its steps") {
    device.most_steps = 3;
    for (uint32_t n = 1; n <= 9; ++n) {
      run_on.run(step_of(&out));
      if (n > 1) REQUIRE(run_on.wait(n - 1)[0] == device.token(n - 1));
    }
    REQUIRE(run_on.wait(9)[0] == device.token(9));
    CHECK(device.launches == 3);
    CHECK(device.ran == numbers(1, 9));
  }
}

TEST_CASE("run on: what else is put on the stream comes behind the steps so far") {
  PlayedDevice device;
  RunOn run_on(device);
  SampledToken out;
  run_on.run(step_of(&out));
  run_on.run(step_of(&out));
  run_on.leave();
  CHECK_FALSE(run_on.number_of(&out));
  device.other_work();
  run_on.run(step_of(&out));
  run_on.run(step_of(&out));
  CHECK(run_on.wait(3)[0] == device.token(3));
  CHECK(run_on.wait(4)[0] == device.token(4));
  device.finish();
  CHECK(device.ran == std::vector<uint32_t>{1, 2, 0, 3, 4});
  CHECK(device.launches == 2);
}

TEST_CASE("run on: a step behind a stop id is left out") {
  PlayedDevice device;
  device.stops = {2};
  RunOn run_on(device);
  SampledToken out;
  for (uint32_t n = 1; n <= 3; ++n) {
    run_on.run(step_of(&out));
    if (n > 1) REQUIRE(run_on.wait(n - 1)[0] == device.token(n - 1));
  }
  CHECK(run_on.wait(3)[0] == -1);
  run_on.run(step_of(&out));  // of another sequence
  CHECK(run_on.wait(4)[0] == device.token(4));
  CHECK(device.ran == std::vector<uint32_t>{1, 2, 4});
  CHECK(device.left == std::vector<uint32_t>{3});
  CHECK(run_on.left_out() == 1);
}

// Any order of steps, waits and other work, with the kernel fast or slow: each step runs once, in order, unless it is behind a stop id.
TEST_CASE("run on: every step runs once and in order") {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    PlayedDevice device;
    device.moments_a_step = 1 + static_cast<int>(random() % 6);
    device.most_steps = 1 + static_cast<int>(random() % 8);
    RunOn run_on(device);
    SampledToken out;
    std::vector<uint32_t> expected, stops;
    uint32_t number = 0, waited = 0;
    for (int i = 0; i < 60; ++i) {
      const uint32_t what = random() % 8;
      if (what < 4 && number - waited < 2) {
        run_on.run(step_of(&out, random() % 10 == 0 ? 200 : 100));
        ++number;
        if (random() % 8 == 0) device.stops.push_back(number);
      } else if (what < 7 && waited < number) {
        ++waited;
        const bool left = std::find(device.left.begin(), device.left.end(), waited) != device.left.end();
        const int32_t token = run_on.wait(waited)[0];
        if (token == -1)
          REQUIRE(std::find(device.stops.begin(), device.stops.end(), waited - 1) != device.stops.end());
        else
          REQUIRE(token == device.token(waited));
        if (left) REQUIRE(token == -1);
      } else if (what == 7) {
        run_on.leave();
        device.other_work();
      }
    }
    run_on.leave();
    device.finish();
    std::vector<uint32_t> steps = device.ran;
    steps.erase(std::remove(steps.begin(), steps.end(), 0u), steps.end());
    CAPTURE(round);
    for (const uint32_t n : numbers(1, number))
      if (std::find(device.left.begin(), device.left.end(), n) == device.left.end()) expected.push_back(n);
    REQUIRE(steps == expected);
    REQUIRE(device.launches <= static_cast<int>(number));
  }
}
