// The decode kernel of Qwen3-0.6B's shape with pseudo-random delays (Probe::delays), for test_delays.cpp.
#pragma once

#include <vector>

#include "cuda/decode/shapes.h"

namespace bolide::cuda_test {

const std::vector<decode::CompiledShape>& delayed_shapes();

}  // namespace bolide::cuda_test
