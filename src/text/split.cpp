#include "text/split.h"

#include <algorithm>

namespace bolide {

void apply_split_behavior(std::vector<Stretch>& stretches, SplitBehavior behavior) {
  if (behavior == SplitBehavior::isolated) return;
  if (behavior == SplitBehavior::removed) {
    std::erase_if(stretches, [](const Stretch& s) { return s.is_match; });
    return;
  }
  const bool backwards = behavior == SplitBehavior::merged_with_next;
  if (backwards) std::reverse(stretches.begin(), stretches.end());
  size_t kept = 0;
  bool previous_match = false;
  for (const Stretch stretch : stretches) {
    const bool join = behavior == SplitBehavior::contiguous ? stretch.is_match == previous_match : stretch.is_match && !previous_match;
    previous_match = stretch.is_match;
    if (join && kept > 0) {
      Stretch& last = stretches[kept - 1];
      last.begin = std::min(last.begin, stretch.begin);
      last.end = std::max(last.end, stretch.end);
    } else {
      stretches[kept++] = stretch;
    }
  }
  stretches.resize(kept);
  if (backwards) std::reverse(stretches.begin(), stretches.end());
}

}  // namespace bolide
