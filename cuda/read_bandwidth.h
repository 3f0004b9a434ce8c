// The device's read bandwidth, measured: the ceiling of everything that is bound by reading weights and KV.
#pragma once

#include "cuda/context.h"

namespace bolide {

// Bytes per second of a kernel that only reads, 16 bytes a load, best of several passes over 1 GiB (less where less is free).
double measure_cuda_read_bandwidth(CudaContext& context);

}  // namespace bolide
