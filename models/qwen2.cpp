// Qwen2 and Qwen2.5: Llama's block with biases on the query, key and value products. Defaults: transformers' Qwen2Config.
#include "models/common.h"

namespace bolide {

static void parse_qwen2(ConfigReader& reader, ModelConfig& config) {
  read_shared_keys(reader, config, {.context = 32768, .kv_heads = 32});
  config.activation = read_activation(reader, "hidden_act", GatedActivation::silu);
  config.qkv_bias = true;  // no key of config.json decides it
  read_layer_windows(reader, config);
}

const Architecture kQwen2 = {"Qwen2ForCausalLM", "qwen2", parse_qwen2};

}  // namespace bolide
