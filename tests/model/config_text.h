// Small config.json texts for tests: a base per architecture, changed key by key.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "caught.h"
#include "models/architecture.h"

namespace bolide {

// The sizes that no architecture has a default for, of a tiny model; everything else is left to the defaults.
inline nlohmann::json base_config(const std::string& architecture, const std::string& model_type) {
  return {{"architectures", {architecture}}, {"model_type", model_type}, {"hidden_size", 64},        {"intermediate_size", 160},
          {"num_hidden_layers", 4},          {"num_attention_heads", 4}, {"num_key_value_heads", 2}, {"vocab_size", 512}};
}
inline nlohmann::json qwen3() { return base_config("Qwen3ForCausalLM", "qwen3"); }
inline nlohmann::json qwen2() { return base_config("Qwen2ForCausalLM", "qwen2"); }
inline nlohmann::json llama() { return base_config("LlamaForCausalLM", "llama"); }
inline nlohmann::json mistral() { return base_config("MistralForCausalLM", "mistral"); }
inline nlohmann::json gemma() { return base_config("GemmaForCausalLM", "gemma"); }

// `config` with the keys of `changes`, nulls included.
inline nlohmann::json with(nlohmann::json config, const char* changes) {
  config.update(nlohmann::json::parse(changes));
  return config;
}
inline nlohmann::json without(nlohmann::json config, const char* key) {
  config.erase(key);
  return config;
}

inline ModelConfig parsed(const nlohmann::json& config) { return parse_model_config(config.dump(), "DIR/config.json"); }
inline Caught refused(const nlohmann::json& config) {
  return caught([&] { parsed(config); });
}

}  // namespace bolide
