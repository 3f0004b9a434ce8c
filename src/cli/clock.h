// Time as the commands report it.
#pragma once

#include <chrono>

namespace bolide {

using Clock = std::chrono::steady_clock;

inline double seconds_between(Clock::time_point from, Clock::time_point to) { return std::chrono::duration<double>(to - from).count(); }

// When this process began to run its own code (after dynamic linking).
Clock::time_point program_start();

}  // namespace bolide
