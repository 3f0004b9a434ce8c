#include "text/stop_strings.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace bolide {

StopStrings::StopStrings(std::vector<std::string> stops, bool keep_match) : keep_match_(keep_match) {
  for (std::string& text : stops) {
    if (text.empty()) throw UsageError("an empty stop string would end every text at once. Leave it out, or use --max-tokens");
    Stop stop;
    stop.text = std::move(text);
    stop.border.assign(stop.text.size() + 1, 0);
    for (size_t i = 1, k = 0; i < stop.text.size(); ++i) {
      while (k > 0 && stop.text[i] != stop.text[k]) k = stop.border[k];
      if (stop.text[i] == stop.text[k]) ++k;
      stop.border[i + 1] = k;
    }
    stops_.push_back(std::move(stop));
  }
}

StopStrings::Result StopStrings::push(std::string_view text) {
  if (stops_.empty()) return {std::string(text), std::nullopt};
  const size_t before = held_.size();
  held_ += text;
  for (size_t i = before; i < held_.size(); ++i) {
    const Stop* found = nullptr;
    for (Stop& stop : stops_) {
      size_t& k = stop.matched;
      while (k > 0 && held_[i] != stop.text[k]) k = stop.border[k];
      if (held_[i] == stop.text[k]) ++k;
      if (k == stop.text.size() && (!found || found->text.size() < k)) found = &stop;
    }
    if (!found) continue;
    Result result{held_.substr(0, i + 1 - (keep_match_ ? 0 : found->text.size())), found->text};
    held_.clear();
    return result;
  }
  size_t keep = 0;
  for (const Stop& stop : stops_) keep = std::max(keep, stop.matched);
  Result result{held_.substr(0, held_.size() - keep), std::nullopt};
  held_.erase(0, held_.size() - keep);
  return result;
}

std::string StopStrings::finish() { return std::exchange(held_, {}); }

}  // namespace bolide
