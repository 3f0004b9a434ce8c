// Tensor maps: what Hopper's bulk tensor copies (cp.async.bulk.tensor) know of an array in device memory.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <initializer_list>

#include "cuda/check.h"

namespace bolide {

struct TensorMapDimension {
  uint64_t size;    // elements
  uint64_t stride;  // bytes from one index to the next; of the first dimension always the element's size
  uint32_t box;     // elements that a copy takes, at most 256
};

// Of a bfloat16 array of 2 to 5 dimensions, innermost first. Boxes are 64 elements wide and arrive with 128-byte swizzle (see
// device/wgmma.cuh); what a box has beyond the array arrives as zeros. data and strides are multiples of 16 bytes.
// A pure function of the host: a map may be made while a stream is being captured. Throws Error where the driver has no tensor maps
// or refuses the shape.
CUtensorMap swizzled_tensor_map(const void* data, std::initializer_list<TensorMapDimension> dimensions, const CudaSite& site);

}  // namespace bolide
