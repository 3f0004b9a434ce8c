// What only the device can see, as errors.
#pragma once

#include "cuda/context.h"
#include "cuda/decode/decode_step.h"

namespace bolide {

// Throws what kernels have reported to the context, and forgets it; to be called when they have ended. Nothing where they have reported
// nothing. decode: whose kernels those are that wait for each other's words: behind lost ones it starts afresh.
void throw_fault(CudaContext& context, DecodeSteps& decode);

}  // namespace bolide
