#include "probed_shape.cuh"

namespace bolide::cuda_test {
namespace {

// For one row.
template <int kD, int kHeads, int kKvHeads, int kHeadDim, int kF>
decode::CompiledShape delayed_shape() {
  using S = decode::Shape<kD, kHeads, kKvHeads, kHeadDim, kF>;
  decode::CompiledShape shape = decode::sizes_of<S>();
  shape.launch = decode::launch_kernel<S, 1, decode::Probe::delays>;
  return shape;
}

}  // namespace

const std::vector<decode::CompiledShape>& delayed_shapes() {
  static const std::vector<decode::CompiledShape> shapes = [] {
    std::vector<decode::CompiledShape> made = probed_shapes<decode::Probe::delays>();
    made.push_back(delayed_shape<896, 14, 2, 64, 4864>());
    made.push_back(delayed_shape<576, 9, 3, 64, 1536>());
    return made;
  }();
  return shapes;
}

}  // namespace bolide::cuda_test
