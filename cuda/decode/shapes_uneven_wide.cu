// Shapes that are not whole (shape.cuh), of wide vectors or with as many key/value heads as query heads.
#include "cuda/decode/compiled_shape.cuh"

namespace bolide::decode {

std::vector<CompiledShape> wide_uneven_shapes() {
  return {
      compiled_shape<2560, 32, 8, 128, 9728>(),    // Qwen3-4B
      compiled_shape<3584, 28, 4, 128, 18944>(),   // Qwen2.5-7B
      compiled_shape<2048, 32, 32, 64, 8192>(),    // SmolLM2-1.7B
      compiled_shape<4096, 32, 32, 128, 11008>(),  // Llama-2-7B
  };
}

}  // namespace bolide::decode
