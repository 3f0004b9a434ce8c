#include "probed_shape.cuh"

namespace bolide::cuda_test {

const std::vector<decode::CompiledShape>& delayed_shapes() {
  static const std::vector<decode::CompiledShape> shapes = probed_shapes<decode::Probe::delays>();
  return shapes;
}

}  // namespace bolide::cuda_test
