// The decode kernel of Qwen3-0.6B's shape, made to suffer (probe.cuh): for test_delays.cpp and test_losses.cpp.
#pragma once

#include <vector>

#include "cuda/decode/shapes.h"

namespace bolide::cuda_test {

// With pseudo-random delays.
const std::vector<decode::CompiledShape>& delayed_shapes();
// In which a block can leave out a publication.
const std::vector<decode::CompiledShape>& losing_shapes();

}  // namespace bolide::cuda_test
