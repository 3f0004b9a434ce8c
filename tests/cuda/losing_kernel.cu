#include "probed_shape.cuh"

namespace bolide::cuda_test {

const std::vector<decode::CompiledShape>& losing_shapes() {
  static const std::vector<decode::CompiledShape> shapes = [] {
    std::vector<decode::CompiledShape> made = probed_shapes<decode::Probe::losses>();
    made.push_back(probed_shape<decode::Probe::losses, 2048, 8, 1, 256, 16384>());
    return made;
  }();
  return shapes;
}

}  // namespace bolide::cuda_test
