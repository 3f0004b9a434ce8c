// The CUDA backend's switches in the environment: ways around what it does by itself, for comparisons.
#pragma once

#include <cstdint>

namespace bolide {

// BOLIDE_DECODE_KERNEL: 1 (or unset), or 0 for a graph of kernels where one kernel could run a decode step.
bool decode_kernel_wanted();
// BOLIDE_DECODE_STEPS: how many decode steps one launch may run; 1: every step is launched.
int32_t decode_steps_of_launch();
// BOLIDE_HALVES: which decode steps of many sequences run as two halves side by side (cuda/halves.h). Unset: those that gain by it; 1: all
// that can; 0: none.
enum class Halving { none, those_that_gain, all_that_can };
Halving halving_wanted();
// All throw UsageError, with the variable, its value and what it may be.

}  // namespace bolide
