#include "models/common.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "core/messages.h"
#include "models/limits.h"

namespace bolide {
namespace {

constexpr size_t kMaxTokenIds = 256;

void read_heads(ConfigReader& reader, ModelConfig& config, const ClassDefaults& defaults) {
  // Where the class's default does not divide the heads, transformers would build a model that cannot run; the weights' shapes then
  // tell whether one per head was meant.
  int64_t kv_fallback = config.heads;
  if (!reader.present("num_key_value_heads") && defaults.kv_heads && config.heads % *defaults.kv_heads == 0)
    kv_fallback = *defaults.kv_heads;
  config.kv_heads = static_cast<int>(reader.int_or("num_key_value_heads", kv_fallback, 1, kMaxHeads));
  if (reader.ok() && config.heads % config.kv_heads != 0) {
    reader.problem(fmt::format("'num_attention_heads' ({}) is no multiple of 'num_key_value_heads' ({})", config.heads, config.kv_heads));
  }

  std::optional<int64_t> head_dim = reader.optional_int("head_dim", 1, kMaxHeadDim);
  if (!head_dim && !reader.present("head_dim")) head_dim = defaults.head_dim;
  if (!head_dim) {
    if (reader.ok() && config.hidden % config.heads != 0) {
      reader.problem(fmt::format("'hidden_size' ({}) is no multiple of 'num_attention_heads' ({}) and there is no 'head_dim'",
                                 config.hidden, config.heads));
    }
    head_dim = std::max(config.hidden / config.heads, 1);
  }
  if (reader.ok() && *head_dim % 2 != 0) reader.problem(fmt::format("the head size {} is odd; RoPE rotates pairs", *head_dim));
  if (reader.ok() && *head_dim * config.heads > kMaxProjection) {
    reader.problem(fmt::format("{} heads of size {} exceed {} in all", config.heads, *head_dim, kMaxProjection));
  }
  config.head_dim = static_cast<int>(*head_dim);
}

void read_token_ids(ConfigReader& reader, ModelConfig& config, const ClassDefaults& defaults) {
  if (const auto ids = reader.optional_int_list("eos_token_id", 0, INT32_MAX, kMaxTokenIds)) {
    config.eos_ids.assign(ids->begin(), ids->end());
  } else if (!reader.present("eos_token_id")) {
    config.eos_ids = defaults.eos_ids;
  }
  if (const auto ids = reader.optional_int_list("bos_token_id", 0, INT32_MAX, 1)) {
    if (!ids->empty()) config.bos_id = static_cast<int32_t>(ids->front());
  } else if (!reader.present("bos_token_id")) {
    config.bos_id = defaults.bos_id;
  }
}

void read_llama3(ConfigReader& outer, ConfigReader& reader, ModelConfig& config) {
  RopeConfig& rope = config.rope;
  rope.scaling = RopeConfig::Scaling::llama3;
  rope.factor = reader.require_number("factor", kMinRopeNumber, kMaxRopeNumber);
  rope.low_freq_factor = reader.require_number("low_freq_factor", kMinRopeNumber, kMaxRopeNumber);
  rope.high_freq_factor = reader.require_number("high_freq_factor", kMinRopeNumber, kMaxRopeNumber);
  const int64_t inner = reader.int_or("original_max_position_embeddings", config.context, 1, kMaxContext);
  rope.original_context = outer.int_or("original_max_position_embeddings", inner, 1, kMaxContext);
  if (reader.ok() && rope.high_freq_factor <= rope.low_freq_factor) {
    reader.problem(
        fmt::format("RoPE's high_freq_factor ({}) must exceed its low_freq_factor ({})", rope.high_freq_factor, rope.low_freq_factor));
  }
}

void refuse_partial_rotary(ConfigReader& reader) {
  const double fraction = reader.number_or("partial_rotary_factor", 1.0, 0.0, kMaxRopeNumber);
  if (fraction != 1.0) reader.problem(fmt::format("'partial_rotary_factor' {} is not supported, only 1", fraction));
}

// transformers 5 writes rope_parameters (rope_theta inside); transformers 4 writes rope_theta and rope_scaling, whose type key was "type"
// before it was "rope_type". Where both objects are given, transformers takes rope_scaling.
void read_rope(ConfigReader& reader, ModelConfig& config) {
  config.rope.theta = reader.number_or("rope_theta", 10000.0, kMinRopeNumber, kMaxRopeNumber);
  refuse_partial_rotary(reader);
  std::optional<ConfigReader> parameters = reader.optional_object("rope_parameters");
  if (std::optional<ConfigReader> scaling = reader.optional_object("rope_scaling"); scaling && !scaling->empty()) parameters = scaling;
  if (!parameters) return;
  if (parameters->holds_objects()) {
    reader.problem("RoPE parameters per layer type are not supported");
    return;
  }
  config.rope.theta = parameters->number_or("rope_theta", config.rope.theta, kMinRopeNumber, kMaxRopeNumber);
  refuse_partial_rotary(*parameters);
  const std::string old_type = parameters->string_or("type", "default");
  const std::string type = parameters->string_or("rope_type", old_type);
  if (parameters->has("mrope_section")) {
    reader.problem("RoPE with 'mrope_section' (multimodal) is not supported");
  } else if (type == "linear") {
    config.rope.scaling = RopeConfig::Scaling::linear;
    config.rope.factor = parameters->require_number("factor", kMinRopeNumber, kMaxRopeNumber);
  } else if (type == "llama3") {
    read_llama3(reader, *parameters, config);
  } else if (type != "default") {
    reader.problem(fmt::format("RoPE type {} is not supported, only default, linear and llama3", in_quotes(type)));
  }
}

}  // namespace

void read_shared_keys(ConfigReader& reader, ModelConfig& config, const ClassDefaults& defaults) {
  read_heads(reader, config, defaults);
  config.context = reader.int_or("max_position_embeddings", defaults.context, 1, kMaxContext);
  config.tied_head = reader.bool_or("tie_word_embeddings", defaults.tied_head);
  read_token_ids(reader, config, defaults);
  read_rope(reader, config);
  config.windows.assign(static_cast<size_t>(config.layers), 0);
}

GatedActivation read_activation(ConfigReader& reader, const std::string& key, GatedActivation fallback) {
  const std::optional<std::string> name = reader.optional_string(key);
  if (!name) return fallback;
  if (*name == "silu" || *name == "swish") return GatedActivation::silu;
  if (*name == "gelu" || *name == "gelu_python") return GatedActivation::gelu_erf;
  if (*name == "gelu_new" || *name == "gelu_pytorch_tanh" || *name == "gelu_python_tanh") return GatedActivation::gelu_tanh;
  reader.problem(
      fmt::format("{} {} is not supported, only silu, swish, gelu, gelu_new and gelu_pytorch_tanh", in_quotes(key), in_quotes(*name)));
  return fallback;
}

void read_layer_windows(ConfigReader& reader, ModelConfig& config) {
  constexpr int64_t kDefaultWindow = 4096, kDefaultFirstLayer = 28;  // of Qwen2Config and Qwen3Config
  const bool used = reader.bool_or("use_sliding_window", false);
  int64_t window = 0;
  if (const auto tokens = reader.optional_int("sliding_window", 0, INT32_MAX)) {
    window = *tokens;
    if (used && window == 0) reader.problem("'sliding_window' is 0, must be positive or null");
  } else if (!reader.present("sliding_window")) {
    window = kDefaultWindow;
  }
  if (!used) window = 0;
  const int64_t first_layer = reader.int_or("max_window_layers", kDefaultFirstLayer, 0, INT32_MAX);
  const auto types = reader.optional_string_list("layer_types", kMaxLayers);
  if (!types) {
    for (int64_t l = first_layer; l < config.layers; ++l) config.windows[static_cast<size_t>(l)] = static_cast<int>(window);
    return;
  }
  if (types->size() != config.windows.size()) {
    reader.problem(fmt::format("'layer_types' has {} entries, 'num_hidden_layers' is {}", types->size(), config.layers));
    return;
  }
  for (size_t l = 0; l < types->size(); ++l) {
    const std::string& type = (*types)[l];
    if (type == "sliding_attention") {
      config.windows[l] = static_cast<int>(window);
      if (window == 0) {
        reader.problem("'layer_types' asks for sliding attention, but 'use_sliding_window' and 'sliding_window' give no window");
        return;
      }
    } else if (type != "full_attention" && type != "attention") {
      reader.problem(fmt::format("layer type {} is not supported, only full_attention and sliding_attention", in_quotes(type)));
      return;
    }
  }
}

}  // namespace bolide
