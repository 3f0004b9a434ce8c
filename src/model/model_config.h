// What a checkpoint's config.json says, checked and in one form. Immutable after parsing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/activation.h"
#include "core/dtype.h"
#include "core/tensor.h"

namespace bolide {

// Rotary position embedding (Su et al., arXiv:2104.09864), halves rotated against each other as transformers does.
struct RopeConfig {
  enum class Scaling : uint8_t { none, linear, llama3 };
  double theta = 10000.0;
  Scaling scaling = Scaling::none;
  double factor = 1.0;             // linear, llama3
  double low_freq_factor = 1.0;    // llama3
  double high_freq_factor = 4.0;   // llama3
  int64_t original_context = 0;    // llama3
};
// [Dh / 2] f32 inverse frequencies after scaling, in the arithmetic of transformers (float32).
std::vector<float> rope_inverse_frequencies(const RopeConfig& rope, int head_dim);

// Tensor names as the checkpoint has them; "{}" stands for the layer. All supported architectures share the default.
struct TensorNames {
  std::string embed = "model.embed_tokens.weight";
  std::string final_norm = "model.norm.weight";
  std::string head = "lm_head.weight";
  std::string input_norm = "model.layers.{}.input_layernorm.weight";
  std::string q = "model.layers.{}.self_attn.q_proj";  // + ".weight" / ".bias", and so for every product below
  std::string k = "model.layers.{}.self_attn.k_proj";
  std::string v = "model.layers.{}.self_attn.v_proj";
  std::string o = "model.layers.{}.self_attn.o_proj";
  std::string q_norm = "model.layers.{}.self_attn.q_norm.weight";
  std::string k_norm = "model.layers.{}.self_attn.k_norm.weight";
  std::string post_norm = "model.layers.{}.post_attention_layernorm.weight";
  std::string gate = "model.layers.{}.mlp.gate_proj";
  std::string up = "model.layers.{}.mlp.up_proj";
  std::string down = "model.layers.{}.mlp.down_proj";
};

struct ModelConfig {
  std::string architecture;  // "Qwen3ForCausalLM"
  std::string model_type;    // "qwen3"
  // Dimension letters of the whole project (glossary in backend/ops.h).
  int hidden = 0;        // D
  int mlp = 0;           // F
  int layers = 0;        // L
  int heads = 0;         // H
  int kv_heads = 0;      // Hkv
  int head_dim = 0;      // Dh
  int vocab = 0;         // V
  int64_t context = 0;   // max_position_embeddings
  float norm_eps = 1e-6f;
  float norm_offset = 0.0f;      // added to every RMSNorm weight (Gemma: 1)
  float embed_scale = 1.0f;      // embeddings are multiplied by it (Gemma: sqrt(D) in float32)
  GatedActivation activation = GatedActivation::silu;
  bool qk_norm = false;          // RMSNorm over each q and k head before RoPE
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool tied_head = false;        // logits use the embedding matrix; settled when the weights are bound
  RopeConfig rope;
  std::vector<int> windows;      // [L] sliding window in tokens (a token sees itself and window - 1 before it), 0 = full attention
  std::optional<DType> dtype;    // dtype / torch_dtype
  std::vector<int32_t> eos_ids;  // eos_token_id, one or many
  std::optional<int32_t> bos_id;
  TensorNames names;

  int64_t parameters() const;                  // computed from the shapes; a tied head counts once
  int64_t kv_bytes_per_token(DType kv) const;  // 2 * L * Hkv * Dh * size
};

}  // namespace bolide
