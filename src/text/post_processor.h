// The "post_processor" node of tokenizer.json: ids put before and after a text (BOS, EOS).
#pragma once

#include <cstdint>
#include <vector>

#include "text/json_node.h"

namespace bolide {

struct PostProcessor {
  std::vector<int32_t> prefix, suffix;
};

// Supported: ByteLevel (no effect on ids), TemplateProcessing (one sequence), BertProcessing, RobertaProcessing, Sequence.
// Throws ModelError.
PostProcessor parse_post_processor(const JsonNode& node);

}  // namespace bolide
