// Shapes with heads of 256 (wide_heads.cuh), in a file of their own: it compiles beside shapes.cu.
#include "cuda/decode/compiled_shape.cuh"

namespace bolide::decode {

std::vector<CompiledShape> wide_headed_shapes() {
  return {
      compiled_shape<2048, 8, 1, 256, 16384>(),    // Gemma-2B
      compiled_shape<3072, 16, 16, 256, 24576>(),  // Gemma-7B
  };
}

}  // namespace bolide::decode
