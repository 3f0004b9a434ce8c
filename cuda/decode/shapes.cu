// The shapes that the decode kernel is compiled for.
#include "cuda/decode/kernel.cuh"
#include "cuda/decode/shapes.h"
#include "cuda/device/launch.h"

namespace bolide::decode {
namespace {

template <class S, int kRows>
void launch_shape(const Parameters& parameters, cudaStream_t stream) {
  LaunchOptions options;
  options.cooperative = true;  // blocks wait for each other: all have to be resident
  launch_with(options, CudaSite{"decode"}, parameters.clocks ? decode_kernel<S, kRows, true> : decode_kernel<S, kRows, false>,
              dim3(kBlocks), dim3(kThreads + 128), sizeof(Shared<S, kRows>), stream, parameters);
}

template <int kHidden, int kQueries, int kMlp, int kQueryHeads, int kHeadDim>
CompiledShape shape() {
  using S = Shape<kHidden, kQueries, kMlp, kQueryHeads, kHeadDim>;
  CompiledShape shape{kHidden * kStageColumns,
                      kQueries * kStageColumns,
                      kMlp * kStageColumns,
                      kQueryHeads * kHeadGroups,
                      kHeadGroups,
                      kHeadDim,
                      S::kWords,
                      S::kPositions,
                      launch_shape<S, 1>,
                      nullptr};
  // Of wider vectors the rows' parts do not stay in registers: slower than the ops one by one (measured on an H100, docs/performance.md).
  if constexpr (kMlp <= 3) shape.launch_rows = launch_shape<S, kMaxRows>;
  return shape;
}

}  // namespace

const std::vector<CompiledShape>& compiled_shapes() {
  static const std::vector<CompiledShape> shapes = {
      shape<1, 2, 3, 2, 128>(),   // Qwen3-0.6B
      shape<2, 2, 6, 2, 128>(),   // Qwen3-1.7B
      shape<2, 2, 8, 4, 64>(),    // Llama-3.2-1B
      shape<4, 4, 12, 4, 128>(),  // Qwen3-8B
      shape<4, 4, 14, 4, 128>(),  // Llama-3-8B, Mistral-7B
  };
  return shapes;
}

}  // namespace bolide::decode
