#include "text/thinking.h"

#include <algorithm>
#include <utility>

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

std::vector<ThinkingPiece> ThinkingSplitter::push(std::string_view text) {
  held_ += text;
  std::vector<ThinkingPiece> out;
  const auto take = [&](size_t size, bool thinking) {
    if (size == 0) return;
    if (out.empty() || out.back().thinking != thinking) out.push_back({"", thinking});
    out.back().text.append(held_, 0, size);
    held_.erase(0, size);
  };
  for (;;) {
    const std::string_view tag = inside_ ? kClose : kOpen;
    const size_t found = held_.find(tag);
    if (found == std::string::npos) {
      take(held_.size() - unfinished(held_, tag), inside_);
      return out;
    }
    take(found, inside_);
    take(tag.size(), true);
    inside_ = !inside_;
  }
}

std::vector<ThinkingPiece> ThinkingSplitter::finish() {
  if (held_.empty()) return {};
  return {{std::exchange(held_, {}), inside_}};
}

std::string ThinkingFilter::push(std::string_view text) { return keep(splitter_.push(text)); }

std::string ThinkingFilter::finish() { return keep(splitter_.finish()); }

std::string ThinkingFilter::keep(const std::vector<ThinkingPiece>& pieces) {
  std::string out;
  for (const ThinkingPiece& piece : pieces) {
    if (piece.thinking) {
      after_block_ = true;
      continue;
    }
    const size_t feeds = after_block_ ? std::min(piece.text.find_first_not_of('\n'), piece.text.size()) : 0;
    out.append(piece.text, feeds);
    if (feeds < piece.text.size()) after_block_ = false;
  }
  return out;
}

bool ends_in_thinking(std::string_view prompt) {
  const size_t open = prompt.rfind(kOpen), close = prompt.rfind(kClose);
  if (open == std::string_view::npos || (close != std::string_view::npos && close > open)) return false;
  // Thinking that the prompt only talks about is followed by other text.
  return prompt.find_first_not_of(" \n\t", open + kOpen.size()) == std::string_view::npos;
}

}  // namespace bolide
