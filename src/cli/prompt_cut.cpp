#include "cli/prompt_cut.h"

#include <algorithm>

#include "core/error.h"

namespace bolide {
namespace {

// How many ids the tokenizer, or a chat template, puts before and after the text's own.
struct Frame {
  size_t before = 0, after = 0;
};
Frame frame_of(const std::vector<int32_t>& ids, const std::string& text, const Tokenizer& tokenizer, bool in_template) {
  const std::vector<int32_t> bare = tokenizer.encode(text, {.add_special = false});
  const auto begin = std::find_end(ids.begin(), ids.end(), bare.begin(), bare.end());
  if (begin == ids.end()) {
    if (!in_template) return {};
    throw Error("--truncate cannot tell the prompt from what the chat template puts around it. Shorten the prompt, or use --raw");
  }
  const size_t before = static_cast<size_t>(begin - ids.begin());
  return {before, ids.size() - before - bare.size()};
}

}  // namespace

bool cut_prompt(std::vector<int32_t>& ids, const std::optional<std::string>& text, const Tokenizer* tokenizer, const PromptCut& cut) {
  const int64_t size = static_cast<int64_t>(ids.size());
  if (cut.side.empty() || size < cut.ctx_size) return false;
  const bool fits = cut.max_tokens > 0 && cut.max_tokens < cut.ctx_size;
  const int64_t room = fits ? cut.max_tokens : std::max<int64_t>(1, cut.ctx_size / 4);
  const Frame frame = text && tokenizer && (cut.add_special || cut.in_template) ? frame_of(ids, *text, *tokenizer, cut.in_template) : Frame{};
  const int64_t kept = std::max<int64_t>(1, cut.ctx_size - room);
  const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(frame.before);
  const auto end = ids.end() - static_cast<std::ptrdiff_t>(frame.after);
  const auto count = static_cast<std::ptrdiff_t>(std::min<int64_t>(size - kept, end - begin));
  if (cut.side == "left")
    ids.erase(begin, begin + count);
  else
    ids.erase(end - count, end);
  return true;
}

}  // namespace bolide
