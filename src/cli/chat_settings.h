// What /set changes and /show prints: how the next answer is drawn.
#pragma once

#include <string>
#include <vector>

#include "engine/sampling_params.h"

namespace bolide {

struct ChatSettings {
  SamplingParams& params;
  bool& stats;
};

// Sets `name` (dashes and underscores are alike). Throws UsageError for a name that is none, with the nearest one, and for a value out of
// range or of the wrong form; nothing is changed then.
void change_setting(ChatSettings settings, int32_t vocab, const std::string& name, const std::string& value);

// "temperature 0.6", a line each.
std::vector<std::string> setting_lines(ChatSettings settings);

// "temperature, top-k, ..."
std::string setting_names();

}  // namespace bolide
