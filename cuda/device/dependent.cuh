// Programmatic dependent launch (CUDA Programming Guide, "Programmatic Dependent Launch and Synchronization"): a kernel that was launched
// with LaunchOptions::dependent may start while the kernels before it still run.
//
// Rules for such a kernel, so that a chain of them is safe:
//   - every block calls wait_for_previous() before it returns, so that "the kernel before has ended" implies the same for all before it;
//   - before that call it reads only what no kernel of the same step writes: weights, StepInputs, and K and V of earlier steps.
#pragma once

namespace bolide {

// Lets the next kernel start as soon as every block of this one has got here and there is room on the device.
__device__ inline void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
// Returns when all kernels before this one have ended and their stores can be seen. Free in a kernel launched without the attribute.
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace bolide
