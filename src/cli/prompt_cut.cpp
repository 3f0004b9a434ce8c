#include "cli/prompt_cut.h"

#include <algorithm>

namespace bolide {

std::optional<PromptFrame> frame_of(const std::vector<int32_t>& ids, const std::string& text, const Tokenizer& tokenizer) {
  const std::vector<int32_t> bare = tokenizer.encode(text, {.add_special = false});
  const auto begin = std::find_end(ids.begin(), ids.end(), bare.begin(), bare.end());
  if (begin == ids.end()) return std::nullopt;
  const size_t before = static_cast<size_t>(begin - ids.begin());
  return PromptFrame{before, ids.size() - before - bare.size()};
}

void cut_prompt(std::vector<int32_t>& ids, const PromptFrame& frame, const PromptCut& cut) {
  const auto size = static_cast<int64_t>(ids.size());
  const bool fits = cut.max_tokens > 0 && cut.max_tokens < cut.ctx_size;
  const int64_t room = fits ? cut.max_tokens : std::max<int64_t>(1, cut.ctx_size / 4);
  const int64_t kept = std::max<int64_t>(1, cut.ctx_size - room);
  const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(frame.before);
  const auto end = ids.end() - static_cast<std::ptrdiff_t>(frame.after);
  const auto count = static_cast<std::ptrdiff_t>(std::min<int64_t>(size - kept, end - begin));
  if (cut.side == "left")
    ids.erase(begin, begin + count);
  else
    ids.erase(end - count, end);
}

}  // namespace bolide
