#include "cli/nearest.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace bolide {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), previous(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) previous[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, previous);
    std::swap(previous, row);
  }
  return previous[b.size()];
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates) {
  BOLIDE_CHECK(!candidates.empty());
  const std::string_view shortened = name.substr(0, 64);  // the distance is quadratic, and the name comes from outside
  const auto rank = [&](const std::string& candidate) {
    const bool continued = candidate.starts_with(shortened);
    return std::pair(!continued, continued ? candidate.size() : edit_distance(shortened, candidate));
  };
  return *std::min_element(candidates.begin(), candidates.end(),
                           [&](const std::string& a, const std::string& b) { return rank(a) < rank(b); });
}

}  // namespace bolide
