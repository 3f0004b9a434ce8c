// Whole shapes of 3,072 and 4,096 columns, in a file of their own: it compiles beside shapes.cu.
#include "cuda/decode/compiled_shape.cuh"

namespace bolide::decode {

std::vector<CompiledShape> wide_shapes() {
  return {
      compiled_shape<3072, 24, 8, 128, 8192>(),   // Llama-3.2-3B
      compiled_shape<4096, 32, 8, 128, 12288>(),  // Qwen3-8B
      compiled_shape<4096, 32, 8, 128, 14336>(),  // Llama-3-8B, Mistral-7B
  };
}

}  // namespace bolide::decode
