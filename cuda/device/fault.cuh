// How a kernel reports what only it can see (see DeviceFault).
#pragma once

#include "cuda/context.h"

namespace bolide {

// One of the first reports of a step stays; where several threads report at once, any of them may win, which is as good.
__device__ inline void report_fault(DeviceFault* fault, int32_t code, int32_t row, int32_t value) {
  volatile DeviceFault* f = fault;
  if (f->code != DeviceFault::none) return;
  f->row = row;
  f->value = value;
  __threadfence_system();
  f->code = code;
}

}  // namespace bolide
