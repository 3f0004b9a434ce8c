#include "cuda/environment.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "core/error.h"

namespace bolide {
namespace {

// Half a second for a small model: other programs' work on the device comes in between.
constexpr int32_t kSteps = 1024, kMostSteps = 1 << 20;

}  // namespace

bool decode_kernel_wanted() {
  const char* set = std::getenv("BOLIDE_DECODE_KERNEL");
  const std::string_view text = set ? set : "1";
  if (text != "0" && text != "1")
    throw UsageError(fmt::format("BOLIDE_DECODE_KERNEL is '{}'. Set it to 0 (decode steps as a graph of kernels) or 1, or unset it", text));
  return text == "1";
}

int32_t decode_steps_of_launch() {
  const char* set = std::getenv("BOLIDE_DECODE_STEPS");
  if (!set) return kSteps;
  const std::string_view text = set;
  int32_t steps = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), steps);
  if (error != std::errc() || end != text.data() + text.size() || steps < 1 || steps > kMostSteps)
    throw UsageError(
        fmt::format("BOLIDE_DECODE_STEPS is '{}'. It says how many decode steps a launch may run: set it to a number from 1 "
                    "(every step is launched) to {}, or unset it",
                    text, kMostSteps));
  return steps;
}

Halving halving_wanted() {
  const char* set = std::getenv("BOLIDE_HALVES");
  if (!set) return Halving::those_that_gain;
  const std::string_view text = set;
  if (text != "0" && text != "1")
    throw UsageError(
        fmt::format("BOLIDE_HALVES is '{}'. Set it to 0 (decode steps of many sequences run whole) or 1 (as two halves side by "
                    "side wherever they can), or unset it (where that is faster)",
                    text));
  return text == "1" ? Halving::all_that_can : Halving::none;
}

}  // namespace bolide
