// Shapes that are not whole (shape.cuh), of up to 2,048 columns; in a file of their own: it compiles beside shapes.cu.
#include "cuda/decode/compiled_shape.cuh"

namespace bolide::decode {

std::vector<CompiledShape> uneven_shapes() {
  return {
      compiled_shape<896, 14, 2, 64, 4864>(),    // Qwen2.5-0.5B
      compiled_shape<1536, 12, 2, 128, 8960>(),  // Qwen2.5-1.5B
      compiled_shape<576, 9, 3, 64, 1536>(),     // SmolLM2-135M
      compiled_shape<960, 15, 5, 64, 2560>(),    // SmolLM2-360M
      compiled_shape<2048, 32, 4, 64, 5632>(),   // TinyLlama-1.1B
  };
}

}  // namespace bolide::decode
