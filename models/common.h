// What the architecture files of this folder share: their entries in the table, and the keys that all of them read with defaults of
// their own.
#pragma once

#include <optional>
#include <vector>

#include "models/architecture.h"

namespace bolide {

// Values of transformers' config class for keys that a config.json leaves out. An explicit null means one key/value head per query head,
// head_dim = hidden / heads, no end or start token.
struct ClassDefaults {
  int64_t context = 2048;
  std::optional<int64_t> kv_heads;  // nothing: one per query head
  std::optional<int64_t> head_dim;  // nothing: hidden / heads
  bool tied_head = false;
  std::vector<int32_t> eos_ids;
  std::optional<int32_t> bos_id;
};

// Heads and their size, context, tied head, token ids, RoPE, and full attention in every layer.
void read_shared_keys(ConfigReader& reader, ModelConfig& config, const ClassDefaults& defaults);

// "hidden_act"; absent or null: `fallback`. Unknown names are a problem.
GatedActivation read_activation(ConfigReader& reader, const std::string& key, GatedActivation fallback);

// Qwen's sliding window: use_sliding_window, sliding_window, and either layer_types or max_window_layers.
void read_layer_windows(ConfigReader& reader, ModelConfig& config);

// One entry per architecture file.
extern const Architecture kQwen3, kQwen2, kLlama, kMistral, kGemma;

}  // namespace bolide
