#include "cli/chat_screen.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>

namespace bolide {
namespace {

constexpr std::string_view kDim = "\x1b[2m", kPlain = "\x1b[0m";

void put_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n < 0 && errno != EINTR && errno != EAGAIN) return;  // the terminal is gone, which the next read finds out
    if (n > 0) text.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace

std::string without_controls(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
    if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {  // U+0080 to U+009F
      out += fmt::format("\\x{:02x}", next);
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

ChatScreen::ChatScreen(const std::string& color, bool quiet)
    : fd_(isatty(STDERR_FILENO) ? STDERR_FILENO : STDOUT_FILENO),
      side_color_(use_color(color, fd_)),
      answer_color_(use_color(color, STDOUT_FILENO)),
      quiet_(quiet) {}

void ChatScreen::say(std::string_view text) const { put_all(fd_, std::string(text) + "\n"); }

void ChatScreen::put_dimmed(std::string_view text) const {
  say(side_color_ ? fmt::format("{}{}{}", kDim, text, kPlain) : std::string(text));
}

void ChatScreen::note(std::string_view text) const {
  if (!quiet_) put_dimmed(text);
}

void ChatScreen::stats(std::string_view text) const { put_dimmed(text); }

void ChatScreen::begin_answer(bool hide_thinking, bool inside) {
  hide_ = hide_thinking;
  splitter_ = ThinkingSplitter(inside);
  filter_ = ThinkingFilter(inside);
}

void ChatScreen::add(std::string_view text) {
  if (hide_)
    out_.write(without_controls(filter_.push(text)));
  else
    put(splitter_.push(text));
  out_.flush();
}

void ChatScreen::end_answer() {
  if (hide_)
    out_.write(without_controls(filter_.finish()));
  else
    put(splitter_.finish());
  out_.write("\n");
  out_.flush();
}

// Every piece ends in plain letters, so that an answer that is cut off leaves the terminal as it was.
void ChatScreen::put(const std::vector<ThinkingPiece>& pieces) {
  for (const ThinkingPiece& piece : pieces) {
    const bool dim = piece.thinking && answer_color_;
    if (dim) out_.write(kDim);
    out_.write(without_controls(piece.text));
    if (dim) out_.write(kPlain);
  }
}

}  // namespace bolide
