// Cutting text at a pattern's matches, in the five ways that tokenizer.json knows.
#pragma once

#include <vector>

#include "text/pattern.h"

namespace bolide {

enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

// Joins or drops the stretches of Pattern::cut as `behavior` says; what is left are the pieces. Matches touch each other's
// neighbours only: of two matches in a row, the second stands alone.
void apply_split_behavior(std::vector<Stretch>& stretches, SplitBehavior behavior);

}  // namespace bolide
