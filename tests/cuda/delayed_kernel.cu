#include "probed_shape.cuh"

namespace bolide::cuda_test {

const std::vector<decode::CompiledShape>& delayed_shapes() {
  static const std::vector<decode::CompiledShape> shapes = [] {
    std::vector<decode::CompiledShape> made = probed_shapes<decode::Probe::delays>();
    made.push_back(probed_shape<decode::Probe::delays, 2048, 32, 8, 64, 8192>());
    made.push_back(probed_shape<decode::Probe::delays, 2048, 8, 1, 256, 16384>());
    made.push_back(probed_shape<decode::Probe::delays, 3072, 16, 16, 256, 24576>());
    return made;
  }();
  return shapes;
}

}  // namespace bolide::cuda_test
