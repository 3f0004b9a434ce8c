// The kernels of probed_kernels.h, each kind of which has a file to itself: they compile side by side.
#pragma once

#include "cuda/decode/launch_kernel.cuh"
#include "probed_kernels.h"

namespace bolide::cuda_test {

template <decode::Probe kProbe, int kD, int kHeads, int kKvHeads, int kHeadDim, int kF>
decode::CompiledShape probed_shape() {
  using S = decode::Shape<kD, kHeads, kKvHeads, kHeadDim, kF>;
  decode::CompiledShape shape = decode::sizes_of<S>();
  shape.launch = decode::launch_kernel<S, 1, kProbe>;
  shape.launch_few = decode::launch_kernel<S, decode::kFewerRows, kProbe>;
  shape.launch_rows = decode::launch_kernel<S, decode::kMaxRows, kProbe>;
  return shape;
}

template <decode::Probe kProbe>
std::vector<decode::CompiledShape> probed_shapes() {
  return {probed_shape<kProbe, 1024, 16, 8, 128, 3072>(), probed_shape<kProbe, 896, 14, 2, 64, 4864>(),
          probed_shape<kProbe, 576, 9, 3, 64, 1536>()};
}

}  // namespace bolide::cuda_test
