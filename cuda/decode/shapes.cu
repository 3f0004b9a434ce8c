// The shapes that the decode kernel is compiled for: those that are whole (shape.cuh), and the list of all.
#include "cuda/decode/compiled_shape.cuh"

namespace bolide::decode {
namespace {

std::vector<CompiledShape> all_shapes() {
  std::vector<CompiledShape> shapes = {
      compiled_shape<1024, 16, 8, 128, 3072, kMaxRows>(),     // Qwen3-0.6B
      compiled_shape<2048, 16, 8, 128, 6144, kMaxRows>(),     // Qwen3-1.7B
      compiled_shape<2048, 32, 8, 64, 8192, kMaxRows>(),      // Llama-3.2-1B
      compiled_shape<3072, 24, 8, 128, 8192, kMaxRows>(),     // Llama-3.2-3B
      compiled_shape<4096, 32, 8, 128, 12288, kMaxRows>(),    // Qwen3-8B
      compiled_shape<4096, 32, 8, 128, 14336, kMaxRows>(),    // Llama-3-8B, Mistral-7B
      compiled_shape<5120, 32, 8, 128, 14336, kFewerRows>(),  // Mistral-Nemo-12B
      compiled_shape<5120, 32, 8, 128, 32768>(),              // Mistral-Small-24B
  };
  for (const CompiledShape& shape : uneven_shapes()) shapes.push_back(shape);
  return shapes;
}

}  // namespace

const std::vector<CompiledShape>& compiled_shapes() {
  static const std::vector<CompiledShape> shapes = all_shapes();
  return shapes;
}

}  // namespace bolide::decode
