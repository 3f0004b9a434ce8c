// What only the device can see, as errors.
#pragma once

#include "cuda/context.h"

namespace bolide {

// Throws what kernels have reported, and forgets it; to be called when they have ended. Nothing where they have reported nothing.
void throw_fault(DeviceFault& fault);

}  // namespace bolide
