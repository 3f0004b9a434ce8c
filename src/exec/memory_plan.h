// What a model will need before anything is read: weights, KV cache, workspace.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "model/model_config.h"

namespace bolide {

// Logit biases that one sequence may bring along.
constexpr int32_t kMaxLogitBiases = 1024;

// The model's sizes as backends plan with them, over a KV cache of this dtype.
ModelDims model_dims(const ModelConfig& config, DType kv);

// Step inputs, activations and logits for a capacity (backend scratch not included).
size_t workspace_bytes(const ModelConfig& config, const StepCapacity& capacity, DType activations);

// Upper bounds of a step for so many sequences of so many tokens, T rows a step and R rows of logits. At least one logits row for each
// sequence; a penalty history has at most ctx_size entries. Saturates at the largest int32.
StepCapacity step_capacity(int32_t tokens, int32_t sequences, int32_t logit_rows, int64_t ctx_size, int32_t chunk_tokens);

// Capacities to build steps for, smallest first: powers of two up to the whole, and from kFineTokens on three more between two of them.
// A backend's launch geometry (and captured graph) follows a step's capacity, so that a step of one row should not be launched for
// hundreds, nor a prompt of 600 tokens for 1,024: so many rows are bound by arithmetic, where few are bound by the weights.
constexpr int32_t kFineTokens = 256;
std::vector<StepCapacity> capacity_buckets(const StepCapacity& whole);

// Chunks that hold `sequences` sequences of `ctx_size` tokens. Saturates at the largest int32.
int32_t chunks_for(int64_t ctx_size, int32_t sequences, int32_t chunk_tokens);

}  // namespace bolide
