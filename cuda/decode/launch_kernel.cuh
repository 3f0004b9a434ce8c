// How a decode kernel of a shape is launched. For shapes*.cu and for tests that have kernels of their own.
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
  shape.hidden = S::kD;
  shape.queries = S::kQ;
  shape.mlp = S::kF;
  shape.heads = S::kQueryHeads * S::kKvHeads;
  shape.kv_heads = S::kKvHeads;
  shape.head_dim = S::kHeadDim;
  shape.head_blocks = S::kHeadBlocks;
  static_assert(S::kWords <= kMostWords && RowWords<S>::kWords <= kMostRowsWords, "the words' buffers have to be larger");
  shape.words = S::kWords;
  shape.row_words = RowWords<S>::kWords;
  shape.positions = S::kPositions;
  shape.goes_on = S::kGoesOn;
  shape.layer_stages = S::kLayerStages;
  return shape;
}

}  // namespace bolide::decode
