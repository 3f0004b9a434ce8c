// Lines with editing and history, through libedit. A build without it takes lines as the terminal gives them.
#include "cli/line_input.h"

#include <cstdlib>
#include <string_view>

#ifdef BOLIDE_HAS_LIBEDIT
#include <histedit.h>
#include <langinfo.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cwchar>

#include "core/error.h"
#endif

namespace bolide {

#ifdef BOLIDE_HAS_LIBEDIT
namespace {

// libedit speaks the locale's encoding; prompts are UTF-8.
void use_utf8() {
  std::setlocale(LC_CTYPE, "");
  if (std::string_view(nl_langinfo(CODESET)) != "UTF-8") std::setlocale(LC_CTYPE, "C.UTF-8");
}

class EditedInput final : public LineInput {
 public:
  EditedInput(int screen, SignalQueue& signals, InputHistory& history, bool bold) : signals_(signals), history_(history), bold_(bold) {
    use_utf8();
    edit_ = el_init("bolide", stdin, screen == STDERR_FILENO ? stderr : stdout, stderr);
    lines_ = history_init();
    if (!edit_ || !lines_) throw Error("libedit could not be started");
    HistEvent event;
    ::history(lines_, &event, H_SETSIZE, static_cast<int>(InputHistory::kEntries));
    ::history(lines_, &event, H_SETUNIQUE, 1);
    for (const std::string& entry : history_.entries()) ::history(lines_, &event, H_ENTER, entry.c_str());
    el_set(edit_, EL_CLIENTDATA, this);
    el_set(edit_, EL_PROMPT_ESC, &EditedInput::prompt_of, '\1');
    el_set(edit_, EL_EDITOR, "emacs");
    el_set(edit_, EL_HIST, ::history, lines_);
    el_set(edit_, EL_GETCFN, &EditedInput::character_of);
    el_set(edit_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    el_set(edit_, EL_BIND, "\\e[1;5C", "em-next-word", nullptr);
    el_set(edit_, EL_BIND, "\\e[1;5D", "ed-prev-word", nullptr);
    el_source(edit_, nullptr);  // the user's own ~/.editrc
  }
  ~EditedInput() override {
    el_end(edit_);
    history_end(lines_);
  }

  InputLine read(const std::string& prompt) override {
    // The marks tell libedit what takes no room on the line. What they enclose is drawn with the character behind it, so one must follow.
    prompt_ = bold_ ? "\1\x1b[1m\1" + prompt.substr(0, prompt.size() - 1) + "\1\x1b[0m\1" + prompt.back() : prompt;
    line_ = {};
    partial_.clear();
    el_set(edit_, EL_PREP_TERM, 1);  // before the prompt is drawn: a Ctrl-D typed right behind it must not be eaten by the terminal
    int count = 0;
    const char* typed = el_gets(edit_, &count);
    if (!typed || count <= 0) {
      if (line_.end == InputEnd::line) line_.end = InputEnd::end_of_input;
      put_line_feed();
      return line_;
    }
    line_.text.assign(typed, static_cast<size_t>(count));
    if (line_.text.ends_with('\n')) line_.text.pop_back();
    remember(line_.text);
    return line_;
  }

 private:
  static EditedInput& self(EditLine* edit) {
    void* data = nullptr;
    el_get(edit, EL_CLIENTDATA, &data);
    return *static_cast<EditedInput*>(data);
  }
  static char* prompt_of(EditLine* edit) { return self(edit).prompt_.data(); }
  static int character_of(EditLine* edit, wchar_t* out) { return self(edit).character(out); }

  void remember(const std::string& line) {
    if (line.empty()) return;
    HistEvent event;
    ::history(lines_, &event, H_ENTER, line.c_str());
    history_.add(line);
  }

  void put_line_feed() const {
    FILE* screen = nullptr;
    if (el_get(edit_, EL_GETFP, 1, &screen) != 0 || !screen) return;
    std::fputc('\n', screen);
    std::fflush(screen);
  }

  // The next character: 1, at the end of the input 0, after a signal that ends the line -1.
  int character(wchar_t* out) {
    for (;;) {
      pollfd wait[2] = {{STDIN_FILENO, POLLIN, 0}, {signals_.fd(), POLLIN, 0}};
      if (poll(wait, 2, -1) < 0) continue;  // a signal: it is in the queue now
      if (wait[1].revents != 0) {
        if (take_signal()) return -1;
        continue;
      }
      char byte = 0;
      const ssize_t n = ::read(STDIN_FILENO, &byte, 1);
      if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (n <= 0) return 0;
      if (add_byte(byte, out)) return 1;
    }
  }

  // Whether the byte completes a character. What is no UTF-8 becomes U+FFFD.
  bool add_byte(char byte, wchar_t* out) {
    partial_ += byte;
    std::mbstate_t state{};
    const size_t size = std::mbrtowc(out, partial_.data(), partial_.size(), &state);
    if (size == static_cast<size_t>(-2)) return false;
    if (size == static_cast<size_t>(-1)) *out = L'\xFFFD';
    partial_.clear();
    return true;
  }

  // Whether the signal ends the line.
  bool take_signal() {
    switch (signals_.next()) {
      case SIGINT: {
        const LineInfo* now = el_line(edit_);
        line_.end = InputEnd::interrupted;
        line_.begun = now->lastchar > now->buffer;
        return true;
      }
      case SIGTERM:
        line_.end = InputEnd::terminated;
        return true;
      case SIGTSTP:
        el_set(edit_, EL_PREP_TERM, 0);
        stop_until_continued();
        el_set(edit_, EL_PREP_TERM, 1);
        el_set(edit_, EL_REFRESH);
        return false;
      case SIGWINCH:
        el_resize(edit_);
        return false;
      default:
        return false;
    }
  }

  SignalQueue& signals_;
  InputHistory& history_;
  bool bold_;
  EditLine* edit_ = nullptr;
  History* lines_ = nullptr;
  std::string prompt_, partial_;
  InputLine line_;
};

}  // namespace
#endif

std::unique_ptr<LineInput> make_line_input(int screen, SignalQueue& signals, InputHistory& history, [[maybe_unused]] bool bold) {
#ifdef BOLIDE_HAS_LIBEDIT
  const char* term = std::getenv("TERM");
  if (term && *term && std::string_view(term) != "dumb") return std::make_unique<EditedInput>(screen, signals, history, bold);
#endif
  return make_plain_input(screen, signals, history);
}

std::string line_editing_description() {
#ifdef BOLIDE_HAS_LIBEDIT
  return fmt::format("libedit {}.{}", LIBEDIT_MAJOR, LIBEDIT_MINOR);
#else
  return "none (built without libedit: lines are taken as the terminal gives them)";
#endif
}

}  // namespace bolide
