// Gemma (first generation): norm weights are stored as offsets from 1, embeddings are scaled by sqrt(D), the MLP is gated by GELU.
// Defaults: transformers' GemmaConfig.
#include <cmath>

#include "models/common.h"

namespace bolide {

// The published files say "gelu" and mean the tanh approximation, which transformers therefore uses for that name here.
static GatedActivation gemma_activation(ConfigReader& reader, const std::string& key, GatedActivation fallback) {
  const GatedActivation named = read_activation(reader, key, fallback);
  return named == GatedActivation::gelu_erf ? GatedActivation::gelu_tanh : named;
}

static void parse_gemma(ConfigReader& reader, ModelConfig& config) {
  read_shared_keys(reader, config, {.context = 8192, .kv_heads = 16, .head_dim = 256, .tied_head = true, .eos_ids = {1}, .bos_id = 2});
  config.activation = gemma_activation(reader, "hidden_act", GatedActivation::gelu_tanh);
  // A key of older versions that transformers no longer reads; where it disagrees, versions compute different things.
  if (gemma_activation(reader, "hidden_activation", config.activation) != config.activation) {
    reader.problem("'hidden_activation' contradicts 'hidden_act'");
  }
  config.qkv_bias = config.o_bias = reader.bool_or("attention_bias", false);
  if (reader.bool_or("use_bidirectional_attention", false)) reader.problem("'use_bidirectional_attention' is not supported");
  config.norm_offset = 1.0f;
  // transformers rounds the factor to the dtype it runs in. Activations are float32 here, so it stays sqrt(D) in float32, as in a
  // float32 run of transformers; a bfloat16 run has 55.5 in place of 55.4256 for D = 3072.
  config.embed_scale = static_cast<float>(std::sqrt(static_cast<double>(config.hidden)));
}

const Architecture kGemma = {"GemmaForCausalLM", "gemma", parse_gemma};

}  // namespace bolide
