// {"String": ...} and {"Regex": ...}.
#pragma once

#include "text/json_node.h"
#include "text/pattern.h"

namespace bolide {

// Throws ModelError that names the node, also for a pattern that does not compile.
Pattern parse_pattern(const JsonNode& node);

}  // namespace bolide
