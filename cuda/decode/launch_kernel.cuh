// How a decode kernel of a shape is launched. For shapes.cu and for tests that have kernels of their own.
#pragma once

#include "cuda/decode/kernel.cuh"
#include "cuda/decode/shapes.h"
#include "cuda/device/launch.h"

namespace bolide::decode {

template <class S, int kRows, Probe kProbe>
void launch_kernel(const Parameters& parameters, cudaStream_t stream) {
  LaunchOptions options;
  options.cooperative = true;  // blocks wait for each other: all have to be resident
  launch_with(options, CudaSite{"decode"}, decode_kernel<S, kRows, kProbe>, dim3(kBlocks), dim3(kThreads + 128), sizeof(Shared<S, kRows>),
              stream, parameters);
}

// Without a way to launch it.
template <class S>
CompiledShape sizes_of() {
  CompiledShape shape{};
  shape.hidden = S::kHidden * kStageColumns;
  shape.queries = S::kQueries * kStageColumns;
  shape.mlp = S::kMlp * kStageColumns;
  shape.heads = S::kQueryHeads * kHeadGroups;
  shape.kv_heads = kHeadGroups;
  shape.head_dim = S::kHeadDim;
  shape.words = S::kWords;
  static_assert(RowWords<S>::kWords <= kMaxRows * S::kWords);
  shape.positions = S::kPositions;
  shape.goes_on = S::kGoesOn;
  return shape;
}

}  // namespace bolide::decode
