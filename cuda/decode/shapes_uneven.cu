// The shapes that are not whole (shape.cuh), in a file of their own: it compiles beside shapes.cu.
#include "cuda/decode/compiled_shape.cuh"

namespace bolide::decode {

std::vector<CompiledShape> uneven_shapes() {
  return {
      compiled_shape<896, 14, 2, 64, 4864>(),     // Qwen2.5-0.5B
      compiled_shape<1536, 12, 2, 128, 8960>(),   // Qwen2.5-1.5B
      compiled_shape<3584, 28, 4, 128, 18944>(),  // Qwen2.5-7B
      compiled_shape<576, 9, 3, 64, 1536>(),      // SmolLM2-135M
  };
}

}  // namespace bolide::decode
