// What shapes*.cu compile for each of their shapes.
#pragma once

#include "cuda/decode/launch_kernel.cuh"

namespace bolide::decode {

template <class S, int kRows>
void launch_shape(const Parameters& parameters, cudaStream_t stream) {
  (parameters.clocks ? launch_kernel<S, kRows, Probe::clocks> : launch_kernel<S, kRows, Probe::none>)(parameters, stream);
}

// See Shape.
template <int kD, int kHeads, int kKvHeads, int kHeadDim, int kF>
CompiledShape compiled_shape() {
  using S = Shape<kD, kHeads, kKvHeads, kHeadDim, kF>;
  CompiledShape shape = sizes_of<S>();
  shape.launch = launch_shape<S, 1>;
  // Of wider vectors the rows' parts do not stay in registers: slower than the ops one by one (measured on an H100, docs/performance.md).
  if constexpr (S::kWhole && kF <= 3072) {
    shape.launch_few = launch_shape<S, kFewerRows>;
    shape.launch_rows = launch_shape<S, kMaxRows>;
  }
  return shape;
}

// Those that are not whole (shape.cuh).
std::vector<CompiledShape> uneven_shapes();

}  // namespace bolide::decode
