// Mistral: Llama's block with a sliding window in every layer. Defaults: transformers' MistralConfig.
#include "models/common.h"

namespace bolide {

constexpr int kDefaultWindow = 4096;  // of a config.json without the key; null switches the window off

static void parse_mistral(ConfigReader& reader, ModelConfig& config) {
  read_shared_keys(reader, config, {.context = 131072, .kv_heads = 8, .eos_ids = {2}, .bos_id = 1});
  config.activation = read_activation(reader, "hidden_act", GatedActivation::silu);
  int window = reader.present("sliding_window") ? 0 : kDefaultWindow;
  if (const auto tokens = reader.optional_int("sliding_window", 1, INT32_MAX)) window = static_cast<int>(*tokens);
  config.windows.assign(static_cast<size_t>(config.layers), window);
}

const Architecture kMistral = {"MistralForCausalLM", "mistral", parse_mistral};

}  // namespace bolide
