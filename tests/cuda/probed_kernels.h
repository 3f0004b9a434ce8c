// Decode kernels made to suffer (probe.cuh): for test_delays.cpp and test_losses.cpp.
#pragma once

#include <vector>

#include "cuda/decode/shapes.h"

namespace bolide::cuda_test {

// Qwen3-0.6B's shape, Qwen2.5-0.5B's and SmolLM2-135M's. With pseudo-random delays; also Llama-3.2-1B's shape,
// Gemma-2B's and 7B's.
const std::vector<decode::CompiledShape>& delayed_shapes();
// In which a block can leave out a publication; also Gemma-2B's shape.
const std::vector<decode::CompiledShape>& losing_shapes();

}  // namespace bolide::cuda_test
