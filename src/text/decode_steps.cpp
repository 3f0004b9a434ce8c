#include "text/decode_steps.h"

#include <algorithm>
#include <optional>

#include "text/byte_level.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace bolide {
namespace {

std::optional<int> hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return std::nullopt;
}

// "<0xE2>"
std::optional<char> byte_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  const std::optional<int> high = hex_digit(token[3]), low = hex_digit(token[4]);
  if (!high || !low) return std::nullopt;
  return static_cast<char>(*high * 16 + *low);
}

}  // namespace

void JoinStep::push(std::string_view token, TokenSink& next) {
  if (!first_) next.take(" ");
  first_ = false;
  next.take(token);
}

void ByteLevelStep::push(std::string_view token, TokenSink& next) {
  held_ += bytes_of_token(token);
  const size_t complete = utf8_complete_prefix(held_);
  if (complete == 0) return;
  next.take(utf8_lossy(std::string_view(held_).substr(0, complete)));
  held_.erase(0, complete);
}

void ByteLevelStep::finish(TokenSink& next) {
  if (!held_.empty()) next.take(utf8_lossy(held_));
  held_.clear();
}

void ByteFallbackStep::push(std::string_view token, TokenSink& next) {
  if (const std::optional<char> byte = byte_token(token)) {
    held_ += *byte;
    drain(next, false);
  } else {
    drain(next, true);
    next.take(token);
  }
}

void ByteFallbackStep::finish(TokenSink& next) { drain(next, true); }

void ByteFallbackStep::drain(TokenSink& next, bool at_end) {
  while (!held_.empty()) {
    const size_t valid = first_invalid_utf8(held_).value_or(held_.size());
    if (valid > 0) {
      next.take(std::string_view(held_).substr(0, valid));
      held_.erase(0, valid);
    } else if (!at_end && utf8_complete_prefix(held_) == 0) {
      return;
    } else {
      next.take(kReplacementCharacter);
      held_.erase(0, 1);
    }
  }
}

void ReplaceStep::push(std::string_view token, TokenSink& next) {
  std::string out;
  size_t previous = 0;
  pattern_->each_match(token, [&](TextRange match) {
    out.append(token.substr(previous, match.begin - previous)).append(content_);
    previous = match.end;
  });
  next.take(out.append(token.substr(previous)));
}

void MetaspaceStep::push(std::string_view token, TokenSink& next) {
  std::string out;
  for (size_t pos = 0; pos < token.size();) {
    const size_t at = pos;
    next_code_point(token, pos);
    const std::string_view character = token.substr(at, pos - at);
    if (character != replacement_) {
      out += character;
    } else if (!drop_) {
      out += ' ';
    }
  }
  drop_ = false;
  next.take(out);
}

void StripStep::push(std::string_view token, TokenSink& next) {
  for (size_t n = 0; n < start_ && token.starts_with(content_); ++n) token.remove_prefix(content_.size());
  for (size_t n = 0; n < stop_ && token.ends_with(content_); ++n) token.remove_suffix(content_.size());
  next.take(token);
}

void StripFusedStep::push(std::string_view fragment, TokenSink& next) {
  while (start_ > 0 && fragment.starts_with(content_)) {
    fragment.remove_prefix(content_.size());
    --start_;
  }
  if (fragment.empty()) return;
  start_ = 0;
  held_ += fragment;
  size_t keep = 0;
  const std::string_view all = held_;
  while (keep < stop_ && all.substr(0, all.size() - keep * content_.size()).ends_with(content_)) ++keep;
  const size_t shown = held_.size() - keep * content_.size();
  if (shown > 0) next.take(all.substr(0, shown));
  held_.erase(0, shown);
}

void StripFusedStep::finish(TokenSink&) { held_.clear(); }

}  // namespace bolide
