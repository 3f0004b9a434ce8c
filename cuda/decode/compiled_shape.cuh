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
  shape.launch_few = launch_shape<S, kFewerRows>;
  shape.launch_rows = launch_shape<S, kMaxRows>;
  return shape;
}

std::vector<CompiledShape> wide_shapes();         // whole ones (shape.cuh) of 3,072 and 4,096 columns
std::vector<CompiledShape> widest_shapes();       // of 5,120
std::vector<CompiledShape> uneven_shapes();       // those that are not whole, ...
std::vector<CompiledShape> wide_uneven_shapes();  // ... of wide vectors or with many key/value heads
std::vector<CompiledShape> wide_headed_shapes();  // with heads of 256

}  // namespace bolide::decode
