#include "probed_shape.cuh"

namespace bolide::cuda_test {

const std::vector<decode::CompiledShape>& losing_shapes() {
  static const std::vector<decode::CompiledShape> shapes = probed_shapes<decode::Probe::losses>();
  return shapes;
}

}  // namespace bolide::cuda_test
