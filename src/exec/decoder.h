// The transformer's forward pass, written once: which fused ops run in which order on which weights.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "model/weights.h"

namespace bolide {

// A model's weights after Backend::prepare, by role.
struct PreparedLayer {
  std::unique_ptr<Buffer> input_norm, post_norm;                 // [D] f32
  std::unique_ptr<Matrix> qkv, o, gate_up, down;
  std::unique_ptr<Buffer> qkv_bias, o_bias, gate_up_bias, down_bias;  // f32 or null
  std::unique_ptr<Buffer> q_norm, k_norm;                        // [Dh] f32 or null
};
struct PreparedModel {
  // Tensors that are stacked into one matrix but are stored in different dtypes, widened to f32; matrices may view them.
  std::vector<std::unique_ptr<float[]>> widened;
  std::unique_ptr<Matrix> embed;
  std::unique_ptr<Matrix> own_head;  // null when tied
  const Matrix* head = nullptr;
  std::unique_ptr<Buffer> final_norm;
  std::unique_ptr<Buffer> inverse_frequencies;  // [Dh / 2] f32
  std::vector<PreparedLayer> layers;
};
PreparedModel prepare_model(Backend& backend, const ModelConfig& config, const ModelWeights& weights);

// Activation buffers of a step; one arena, carved by the executor.
struct Activations {
  float* x;               // [T, D]
  float* rope;            // [T, Dh / 2, 2]
  ActivationBuffer q;     // [T, H, Dh]
  ActivationBuffer attn;  // [T, H, Dh]
  ActivationBuffer ff;    // [T, F]
  float* logits;          // [R, V]
  SampledToken* sampled;  // [R]
  const SampledToken* previous;  // [R] of the step before
};

// L layers give 5 L + 3 ops.
Step build_step(const ModelConfig& config, const PreparedModel& model, const Activations& act, const StepInputs* inputs,
                KvCache* kv, const StepCapacity& capacity);

}  // namespace bolide
