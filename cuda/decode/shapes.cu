// The shapes that the decode kernel is compiled for: whole ones (shape.cuh) of up to 2,048 columns, and the list of all.
#include "cuda/decode/compiled_shape.cuh"

namespace bolide::decode {
namespace {

std::vector<CompiledShape> all_shapes() {
  std::vector<CompiledShape> shapes = {
      compiled_shape<1024, 16, 8, 128, 3072>(),  // Qwen3-0.6B
      compiled_shape<2048, 16, 8, 128, 6144>(),  // Qwen3-1.7B
      compiled_shape<2048, 32, 8, 64, 8192>(),   // Llama-3.2-1B
  };
  for (const auto& more : {wide_shapes(), widest_shapes(), uneven_shapes(), wide_uneven_shapes(), wide_headed_shapes()})
    shapes.insert(shapes.end(), more.begin(), more.end());
  return shapes;
}

}  // namespace

const std::vector<CompiledShape>& compiled_shapes() {
  static const std::vector<CompiledShape> shapes = all_shapes();
  return shapes;
}

}  // namespace bolide::decode
