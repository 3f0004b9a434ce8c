// How fast the attention kernels of single rows read K and V.
#pragma once

#include <string>

#include "attention_problem.h"

namespace bolide::attention_bench {

// Prints, for loads of many sequences, each kernel's time, GB/s of K and V, and share of the read bandwidth measured beside it. filter:
// only kernels whose name holds it.
void measure_decode(Device& device, const std::string& filter, int runs);

}  // namespace bolide::attention_bench
