#include "text/thinking.h"

#include <algorithm>

namespace bolide {
namespace {

constexpr std::string_view kOpen = "<think>", kClose = "</think>";

// Bytes at the end of `text` that may be the beginning of `tag`.
size_t unfinished(std::string_view text, std::string_view tag) {
  for (size_t size = std::min(text.size(), tag.size() - 1); size > 0; --size) {
    if (text.ends_with(tag.substr(0, size))) return size;
  }
  return 0;
}

}  // namespace

std::string ThinkingFilter::push(std::string_view text) {
  held_ += text;
  std::string out;
  for (;;) {
    if (after_block_) {
      const size_t feeds = std::min(held_.find_first_not_of('\n'), held_.size());
      held_.erase(0, feeds);
      if (held_.empty()) return out;
      after_block_ = false;
    }
    const std::string_view tag = inside_ ? kClose : kOpen;
    const size_t found = held_.find(tag);
    const size_t end = found == std::string::npos ? held_.size() - unfinished(held_, tag) : found;
    if (!inside_) out.append(held_, 0, end);
    held_.erase(0, found == std::string::npos ? end : found + tag.size());
    if (found == std::string::npos) return out;
    after_block_ = inside_;
    inside_ = !inside_;
  }
}

std::string ThinkingFilter::finish() {
  std::string out;
  if (!inside_) out.swap(held_);
  held_.clear();
  return out;
}

bool ends_in_thinking(std::string_view prompt) {
  const size_t open = prompt.rfind(kOpen), close = prompt.rfind(kClose);
  if (open == std::string_view::npos || (close != std::string_view::npos && close > open)) return false;
  // Thinking that the prompt only talks about is followed by other text.
  return prompt.find_first_not_of(" \n\t", open + kOpen.size()) == std::string_view::npos;
}

}  // namespace bolide
