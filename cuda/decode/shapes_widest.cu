// Whole shapes of 5,120 columns, in a file of their own: it compiles beside shapes.cu.
#include "cuda/decode/compiled_shape.cuh"

namespace bolide::decode {

std::vector<CompiledShape> widest_shapes() {
  return {
      compiled_shape<5120, 32, 8, 128, 14336>(),  // Mistral-Nemo-12B
      compiled_shape<5120, 32, 8, 128, 32768>(),  // Mistral-Small-24B
  };
}

}  // namespace bolide::decode
