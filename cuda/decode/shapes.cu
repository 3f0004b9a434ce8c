// The shapes that the decode kernel is compiled for.
#include "cuda/decode/launch_kernel.cuh"

namespace bolide::decode {
namespace {

template <class S, int kRows>
void launch_shape(const Parameters& parameters, cudaStream_t stream) {
  (parameters.clocks ? launch_kernel<S, kRows, Probe::clocks> : launch_kernel<S, kRows, Probe::none>)(parameters, stream);
}

template <int kHidden, int kQueries, int kMlp, int kQueryHeads, int kHeadDim>
CompiledShape shape() {
  using S = Shape<kHidden, kQueries, kMlp, kQueryHeads, kHeadDim>;
  CompiledShape shape = sizes_of<S>();
  shape.launch = launch_shape<S, 1>;
  // Of wider vectors the rows' parts do not stay in registers: slower than the ops one by one (measured on an H100, docs/performance.md).
  if constexpr (kMlp <= 3) {
    shape.launch_few = launch_shape<S, kFewerRows>;
    shape.launch_rows = launch_shape<S, kMaxRows>;
  }
  return shape;
}

}  // namespace

const std::vector<CompiledShape>& compiled_shapes() {
  static const std::vector<CompiledShape> shapes = {
      shape<1, 2, 3, 2, 128>(),   // Qwen3-0.6B
      shape<2, 2, 6, 2, 128>(),   // Qwen3-1.7B
      shape<2, 2, 8, 4, 64>(),    // Llama-3.2-1B
      shape<3, 3, 8, 3, 128>(),   // Llama-3.2-3B
      shape<4, 4, 12, 4, 128>(),  // Qwen3-8B
      shape<4, 4, 14, 4, 128>(),  // Llama-3-8B, Mistral-7B
      shape<5, 4, 14, 4, 128>(),  // Mistral-Nemo-12B
      shape<5, 4, 32, 4, 128>(),  // Mistral-Small-24B
  };
  return shapes;
}

}  // namespace bolide::decode
