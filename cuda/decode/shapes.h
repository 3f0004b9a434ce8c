// The model shapes that the decode kernel is compiled for (shapes*.cu). C++17.
#pragma once

#include <vector>

#include "cuda/decode/parameters.h"

namespace bolide::decode {

struct CompiledShape {
  int32_t hidden, queries, mlp, heads, kv_heads, head_dim;  // D, Q, F, H, Hkv, Dh
  int32_t head_blocks;                                      // thread blocks that share a key/value head
  int32_t words, row_words;                                 // of the edges, with one row and with several
  int32_t positions;                                        // in a block of K and V
  bool goes_on;                                             // launch, from step to step where that has stages enough: see run_on.h
  int32_t layer_stages;                                     // of the stream, in a block with the fewest
  void (*launch)(const Parameters& parameters, cudaStream_t stream);
  void (*launch_few)(const Parameters& parameters, cudaStream_t stream);   // up to kFewerRows
  void (*launch_rows)(const Parameters& parameters, cudaStream_t stream);  // up to kMaxRows
};
const std::vector<CompiledShape>& compiled_shapes();

}  // namespace bolide::decode
