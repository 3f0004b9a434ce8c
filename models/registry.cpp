#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/messages.h"
#include "models/common.h"
#include "models/limits.h"

namespace bolide {
namespace {

constexpr uintmax_t kMaxConfigBytes = 4'000'000;  // published ones have a few kilobytes
constexpr size_t kMaxArchitectureNames = 16;

const Architecture* find_by(std::string_view Architecture::*field, std::string_view name) {
  for (const Architecture* a : architectures()) {
    if (a->*field == name) return a;
  }
  return nullptr;
}

[[noreturn]] void unknown(const std::string& what, const ConfigReader& reader) {
  std::vector<std::string_view> names;
  for (const Architecture* a : architectures()) names.push_back(a->name);
  throw ModelError(fmt::format("unknown {} in {}. Supported: {}", what, reader.source(), fmt::join(names, ", ")));
}

const Architecture& find_architecture(ConfigReader& reader) {
  const std::optional<std::vector<std::string>> names = reader.optional_string_list("architectures", kMaxArchitectureNames);
  const std::optional<std::string> type = reader.optional_string("model_type");
  reader.throw_problems();
  if (names && !names->empty()) {
    const Architecture* found = find_by(&Architecture::name, names->front());
    if (found == nullptr) unknown("architecture " + in_quotes(names->front()), reader);
    if (type && *type != found->model_type) {
      throw ModelError(
          fmt::format("{}: 'architectures' says {}, 'model_type' says {}", reader.source(), in_quotes(names->front()), in_quotes(*type)));
    }
    return *found;
  }
  if (!type)
    throw ModelError(fmt::format("{} has neither 'architectures' nor 'model_type'. Is it a model's config.json?", reader.source()));
  const Architecture* found = find_by(&Architecture::model_type, *type);
  if (found == nullptr) unknown("model_type " + in_quotes(*type), reader);
  return *found;
}

// Keys of features that would change the result and are not computed here, whatever the architecture.
void refuse_foreign_features(ConfigReader& reader) {
  if (auto quantization = reader.optional_object("quantization_config")) {
    const std::string method = quantization->string_or("quant_method", "unnamed");
    reader.problem(fmt::format("quantization_config of method {} is not supported. Use the unquantised checkpoint", in_quotes(method)));
  }
  for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"}) {
    if (reader.optional_int(key, 0, INT64_MAX).value_or(0) > 0)
      reader.problem(fmt::format("'{}': mixtures of experts are not supported", key));
  }
  for (const char* key : {"q_lora_rank", "kv_lora_rank"}) {
    if (reader.optional_int(key, 0, INT64_MAX).value_or(0) > 0) reader.problem(fmt::format("'{}': latent attention is not supported", key));
  }
  if (reader.bool_or("use_mrope", false)) reader.problem("'use_mrope' (multimodal RoPE) is not supported");
}

void read_common_keys(ConfigReader& reader, ModelConfig& config) {
  config.hidden = static_cast<int>(reader.require_int("hidden_size", 1, kMaxHidden));
  config.mlp = static_cast<int>(reader.require_int("intermediate_size", 1, kMaxMlp));
  config.layers = static_cast<int>(reader.require_int("num_hidden_layers", 1, kMaxLayers));
  config.heads = static_cast<int>(reader.require_int("num_attention_heads", 1, kMaxHeads));
  config.vocab = static_cast<int>(reader.require_int("vocab_size", 1, kMaxVocab));
  config.norm_eps = static_cast<float>(reader.number_or("rms_norm_eps", 1e-6, 0.0, 1.0));
  // A hint only: every tensor is computed with as it is stored. transformers prefers the newer name.
  const std::optional<std::string> old_name = reader.optional_string("torch_dtype");
  const std::optional<std::string> new_name = reader.optional_string("dtype");
  if (new_name || old_name) config.dtype = parse_dtype(new_name ? *new_name : *old_name);
  if (config.dtype == DType::f8) config.dtype.reset();  // no dtype of weights
}

nlohmann::json parse_json(const std::string& text, const std::string& source) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    const auto end = text.begin() + static_cast<std::ptrdiff_t>(std::min<size_t>(error.byte, text.size()));
    throw ModelError(fmt::format("{} is not valid JSON (line {}, byte {})", source, std::count(text.begin(), end, '\n') + 1, error.byte));
  } catch (const nlohmann::json::exception&) {
    throw ModelError(fmt::format("{} is not valid JSON (a number out of range)", source));
  }
}

}  // namespace

const std::vector<const Architecture*>& architectures() {
  static const std::vector<const Architecture*> table = {&kQwen3, &kQwen2, &kLlama, &kMistral, &kGemma};
  return table;
}

ModelConfig parse_model_config(const std::string& json_text, const std::string& source) {
  const nlohmann::json document = parse_json(json_text, source);
  ConfigReader reader(document, source);
  reader.throw_problems();
  const Architecture& architecture = find_architecture(reader);
  ModelConfig config;
  config.architecture = architecture.name;
  config.model_type = architecture.model_type;
  refuse_foreign_features(reader);
  read_common_keys(reader, config);
  architecture.parse(reader, config);
  reader.throw_problems();
  return config;
}

ModelConfig load_model_config(const std::filesystem::path& config_file) {
  std::error_code failed;
  const uintmax_t bytes = std::filesystem::file_size(config_file, failed);
  if (failed) throw ModelError(fmt::format("cannot read {}: {}", config_file.string(), failed.message()));
  if (bytes > kMaxConfigBytes) throw ModelError(fmt::format("{} has {} bytes, too many for a config.json", config_file.string(), bytes));
  return parse_model_config(read_file(config_file, ExitCode::model), config_file.string());
}

}  // namespace bolide
