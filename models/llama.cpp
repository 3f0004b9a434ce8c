// Llama 1 to 3 and what shares its block (SmolLM2, TinyLlama, ...). Defaults: transformers' LlamaConfig.
#include "models/common.h"

namespace bolide {

static void parse_llama(ConfigReader& reader, ModelConfig& config) {
  read_shared_keys(reader, config, {.context = 2048, .eos_ids = {2}, .bos_id = 1});
  config.activation = read_activation(reader, "hidden_act", GatedActivation::silu);
  config.qkv_bias = config.o_bias = reader.bool_or("attention_bias", false);
  config.mlp_bias = reader.bool_or("mlp_bias", false);
}

const Architecture kLlama = {"LlamaForCausalLM", "llama", parse_llama};

}  // namespace bolide
