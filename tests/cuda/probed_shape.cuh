// The kernels of probed_kernels.h, each kind of which has a file to itself: they compile side by side.
#pragma once

#include "cuda/decode/launch_kernel.cuh"
#include "probed_kernels.h"

namespace bolide::cuda_test {

template <decode::Probe kProbe>
std::vector<decode::CompiledShape> probed_shapes() {
  using S = decode::Shape<1024, 16, 8, 128, 3072>;
  decode::CompiledShape shape = decode::sizes_of<S>();
  shape.launch = decode::launch_kernel<S, 1, kProbe>;
  shape.launch_few = decode::launch_kernel<S, decode::kFewerRows, kProbe>;
  shape.launch_rows = decode::launch_kernel<S, decode::kMaxRows, kProbe>;
  return {shape};
}

}  // namespace bolide::cuda_test
