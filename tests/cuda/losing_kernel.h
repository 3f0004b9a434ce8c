// The decode kernel of Qwen3-0.6B's shape in which a block can leave out a publication (Probe::losses), for test_losses.cpp.
#pragma once

#include <vector>

#include "cuda/decode/shapes.h"

namespace bolide::cuda_test {

const std::vector<decode::CompiledShape>& losing_shapes();

}  // namespace bolide::cuda_test
