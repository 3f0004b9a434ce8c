// The known name that a mistyped one most resembles.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bolide {

// Edit distance over bytes: insertions, deletions and substitutions cost 1 (Levenshtein, 1966), swaps of neighbours too
// (Damerau, 1964, in the restricted form).
size_t edit_distance(std::string_view a, std::string_view b);

// The shortest candidate that begins with the name, if any does; else the one at the least distance, and among equals the first.
// `candidates` is not empty.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace bolide
