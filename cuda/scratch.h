// How much scratch memory the ops need for a capacity.
#pragma once

#include "backend/backend.h"
#include "cuda/context.h"

namespace bolide {

// Bytes, as CudaScratch names them.
struct ScratchSizes {
  size_t operand, row_scale, product, widened, wide, sampling, halves;
  AttentionScratch attention;
  size_t total() const;
};
// On the context's device, with its activations.
ScratchSizes scratch_sizes(const StepCapacity& capacity, const ModelDims& dims, const CudaContext& context);

}  // namespace bolide
