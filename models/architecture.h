// The table of supported architectures: one file each in this folder, data in and data out.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "model/config_reader.h"
#include "model/model_config.h"

namespace bolide {

struct Architecture {
  std::string_view name;        // config.json "architectures"[0]
  std::string_view model_type;  // config.json "model_type"
  // Fills what is particular; common keys are already in `config`.
  void (*parse)(ConfigReader& reader, ModelConfig& config);
};

const std::vector<const Architecture*>& architectures();

// Parses config.json (forms of transformers 4 and 5). Throws ModelError that names the file and lists every problem: an unknown
// architecture (with the supported ones), missing, mistyped or contradictory keys, and features that are not computed here
// (other rope types, partial rotary, quantization_config, ...).
ModelConfig load_model_config(const std::filesystem::path& config_file);
// The same from text; `source` is the name used in messages.
ModelConfig parse_model_config(const std::string& json_text, const std::string& source);

}  // namespace bolide
