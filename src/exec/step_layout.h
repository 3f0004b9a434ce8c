// Byte offsets of a step's arrays: the step inputs in one block, and activations, logits and results in another.
#pragma once

#include <cstddef>

#include "backend/backend.h"

namespace bolide {

// Steps that may be under way at a time. Each has step inputs and results of its own; all else is one step's after the other.
constexpr int kStepsInFlight = 2;

// Every array starts at a multiple of this, as Backend::alloc's memory does.
constexpr size_t kArrayAlignment = 256;

// The arrays of StepInputs at their capacity. Arrays whose used part is far below their capacity (penalty histories above all) come
// last, so that one upload of a prefix carries a step's inputs.
struct InputLayout {
  size_t counts, token_ids, positions, row_sequences, slots, query_offsets, kv_lengths, chunk_offsets, logit_rows, sampling, seen_offsets,
      bias_offsets, chunk_ids, biases, seen;
  size_t bytes;
};
InputLayout input_layout(const StepCapacity& capacity);

// Pointers into a block that begins at `base`.
StepInputs place_inputs(std::byte* base, const InputLayout& layout);

// x [T, D], rope [T, Dh / 2, 2], q and attn [T, H, Dh], ff [T, F], logits [R, V], sampled [kStepsInFlight, R].
struct ActivationLayout {
  size_t x, rope, q, attn, ff, logits, sampled;
  size_t bytes;
};
ActivationLayout activation_layout(const ModelDims& dims, const StepCapacity& capacity, DType activations);

}  // namespace bolide
