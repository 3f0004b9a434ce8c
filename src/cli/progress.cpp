#include "cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <string_view>

#include "core/human.h"

namespace bolide {
namespace {

constexpr double kRedrawSeconds = 0.2;

bool can_rewrite_lines() {
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) && !(term && std::string_view(term) == "dumb");
}

size_t terminal_columns() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// A terminal that cannot take it now misses one drawing.
void put(const std::string& text) { [[maybe_unused]] const ssize_t ignored = write(STDERR_FILENO, text.data(), text.size()); }

}  // namespace

std::string clock_text(double seconds) {
  const auto whole = static_cast<int64_t>(std::llround(std::min(seconds, 1e9)));
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string progress_text(int64_t done, int64_t total, int64_t failed, int64_t done_now, int64_t tokens, double seconds) {
  std::string text = fmt::format("{} of {} ({} %)", with_commas(done), with_commas(total), total > 0 ? done * 100 / total : 100);
  if (failed > 0) text += fmt::format(", {} failed", with_commas(failed));
  if (seconds <= 0) return text;
  text += fmt::format(" | {} tok/s", with_commas(std::llround(static_cast<double>(tokens) / seconds)));
  if (done_now > 0) text += " | ETA " + clock_text(seconds / static_cast<double>(done_now) * static_cast<double>(total - done));
  return text;
}

ProgressLine::ProgressLine(bool wanted, int64_t total, int64_t already_done)
    : active_(wanted && can_rewrite_lines()), total_(total), already_done_(already_done) {}

void ProgressLine::update(int64_t done, int64_t failed, int64_t tokens) {
  if (!active_) return;
  const auto now = Clock::now();
  if (seconds_between(drawn_, now) < kRedrawSeconds) return;
  drawn_ = now;
  visible_ = true;
  const std::string text = progress_text(done, total_, failed, done - already_done_, tokens, seconds_between(begin_, now));
  // A line that wraps could not be taken back.
  put("\r\x1b[K" + text.substr(0, terminal_columns() - 1));
}

void ProgressLine::clear() {
  if (visible_) put("\r\x1b[K");
  visible_ = false;
}

Progress::Progress(bool wanted) : shown_(wanted && can_rewrite_lines()) {}

void Progress::show(const std::string& text) const {
  if (shown_) put("\r\x1b[K" + text);
}

}  // namespace bolide
