// Lines as the terminal gives them: its own line discipline knows Backspace, Ctrl-U and Ctrl-W.
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string_view>

#include "cli/line_input.h"

namespace bolide {
namespace {

class PlainInput final : public LineInput {
 public:
  PlainInput(int screen, SignalQueue& signals, InputHistory& history) : screen_(screen), signals_(signals), history_(history) {}

  InputLine read(const std::string& prompt) override {
    put(prompt);
    for (;;) {
      if (std::optional<InputLine> line = next_line()) return std::move(*line);
      pollfd wait[2] = {{STDIN_FILENO, POLLIN, 0}, {signals_.fd(), POLLIN, 0}};
      if (poll(wait, 2, -1) < 0) continue;  // a signal: it is in the queue now
      if (wait[1].revents != 0) {
        if (const std::optional<InputEnd> end = take_signal(prompt)) return {*end, "", false};
      } else if (wait[0].revents != 0) {
        fill();
      }
    }
  }

 private:
  void put(std::string_view text) const { [[maybe_unused]] const ssize_t ignored = write(screen_, text.data(), text.size()); }

  std::optional<InputLine> next_line() {
    const size_t feed = typed_.find('\n');
    if (feed == std::string::npos && !ended_) return std::nullopt;
    ended_ = false;  // a terminal may go on after its end of input
    if (feed == std::string::npos && typed_.empty()) {
      put("\n");
      return InputLine{InputEnd::end_of_input, "", false};
    }
    InputLine line{InputEnd::line, typed_.substr(0, feed), false};
    typed_.erase(0, feed == std::string::npos ? feed : feed + 1);
    if (!line.text.empty()) history_.add(line.text);
    return line;
  }

  std::optional<InputEnd> take_signal(const std::string& prompt) {
    switch (signals_.next()) {
      case SIGINT:
        typed_.clear();
        put("\n");
        return InputEnd::interrupted;
      case SIGTERM:
        put("\n");
        return InputEnd::terminated;
      case SIGTSTP:
        stop_until_continued();
        put(prompt);
        return std::nullopt;
      default:
        return std::nullopt;
    }
  }

  void fill() {
    char block[4096];
    const ssize_t n = ::read(STDIN_FILENO, block, sizeof block);
    if (n > 0) typed_.append(block, static_cast<size_t>(n));
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) ended_ = true;
  }

  int screen_;
  SignalQueue& signals_;
  InputHistory& history_;
  std::string typed_;
  bool ended_ = false;
};

}  // namespace

std::unique_ptr<LineInput> make_plain_input(int screen, SignalQueue& signals, InputHistory& history) {
  return std::make_unique<PlainInput>(screen, signals, history);
}

void stop_until_continued() { raise(SIGSTOP); }

}  // namespace bolide
