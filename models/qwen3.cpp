// Qwen3 (dense): Llama's block with an RMSNorm over every query and key head. Defaults: transformers' Qwen3Config.
#include "models/common.h"

namespace bolide {

static void parse_qwen3(ConfigReader& reader, ModelConfig& config) {
  read_shared_keys(reader, config, {.context = 32768, .kv_heads = 32, .head_dim = 128});
  config.activation = read_activation(reader, "hidden_act", GatedActivation::silu);
  config.qk_norm = true;
  config.qkv_bias = config.o_bias = reader.bool_or("attention_bias", false);
  read_layer_windows(reader, config);
}

const Architecture kQwen3 = {"Qwen3ForCausalLM", "qwen3", parse_qwen3};

}  // namespace bolide
