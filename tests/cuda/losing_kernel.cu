#include "cuda/decode/launch_kernel.cuh"
#include "losing_kernel.h"

namespace bolide::cuda_test {
namespace {

std::vector<decode::CompiledShape> make_shapes() {
  using S = decode::Shape<1, 2, 3, 2, 128>;
  decode::CompiledShape shape = decode::sizes_of<S>();
  shape.launch = decode::launch_kernel<S, 1, decode::Probe::losses>;
  shape.launch_few = decode::launch_kernel<S, decode::kFewerRows, decode::Probe::losses>;
  shape.launch_rows = decode::launch_kernel<S, decode::kMaxRows, decode::Probe::losses>;
  return {shape};
}

}  // namespace

const std::vector<decode::CompiledShape>& losing_shapes() {
  static const std::vector<decode::CompiledShape> shapes = make_shapes();
  return shapes;
}

}  // namespace bolide::cuda_test
