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
#include <optional>
#include <set>

#include "core/error.h"
#include "text/utf8.h"
#endif

namespace bolide {

#ifdef BOLIDE_HAS_LIBEDIT
namespace {

// libedit speaks the locale's encoding; prompts are UTF-8.
void use_utf8() {
  std::setlocale(LC_CTYPE, "");
  if (std::string_view(nl_langinfo(CODESET)) != "UTF-8") std::setlocale(LC_CTYPE, "C.UTF-8");
}

// "Bracketed paste" of xterm and its followers (XTerm Control Sequences, mode 2004): the terminal encloses what is pasted in marks. On
// as long as one exists.
constexpr const char* kPasteBeginBinding = "\\e[200~";
constexpr std::string_view kPasteEnd = "\x1b[201~", kPasteOn = "\x1b[?2004h", kPasteOff = "\x1b[?2004l";
class BracketedPaste {
 public:
  explicit BracketedPaste(int screen) : screen_(screen) { put(kPasteOn); }
  ~BracketedPaste() { put(kPasteOff); }
  BracketedPaste(const BracketedPaste&) = delete;
  BracketedPaste& operator=(const BracketedPaste&) = delete;

 private:
  void put(std::string_view text) const { [[maybe_unused]] const ssize_t ignored = write(screen_, text.data(), text.size()); }
  int screen_;
};

// Terminals send line feeds as carriage returns. The last one, which comes along where whole lines are copied, is left out. What is no
// UTF-8, and the zero byte, which libedit ends a text with, becomes U+FFFD.
std::string pasted_text(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    if (byte == '\0')
      text += "\xEF\xBF\xBD";
    else
      text += byte == '\r' ? '\n' : byte;
  }
  if (text.ends_with('\n')) text.pop_back();
  return utf8_lossy(text);
}

// With its line feed; empty where there is none.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n') + 1); }

class EditedInput final : public LineInput {
 public:
  EditedInput(int screen, SignalQueue& signals, InputHistory& history, bool bold)
      : screen_(screen), signals_(signals), history_(history), bold_(bold) {
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
    el_wset(edit_, EL_ADDFN, L"bolide-paste", L"takes a pasted text", &EditedInput::paste_of);  // el_set would lose copies of both texts
    el_set(edit_, EL_BIND, kPasteBeginBinding, "bolide-paste", nullptr);
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
    paste_.emplace(screen_);
    int count = 0;
    const char* typed = el_gets(edit_, &count);
    paste_.reset();
    if (!typed || count <= 0) {
      if (line_.end == InputEnd::line) line_.end = InputEnd::end_of_input;
      put_line_feed();
      return line_;
    }
    line_.text.assign(typed, static_cast<size_t>(count));
    if (line_.text.ends_with('\n')) line_.text.pop_back();
    line_.as_is = pasted_beginnings_.contains(first_line(line_.text));
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
  static unsigned char paste_of(EditLine* edit, wint_t) { return self(edit).paste(); }

  // A pasted text of several lines can be recalled as a whole while the program runs; the file keeps lines.
  void remember(const std::string& line) {
    if (line.empty()) return;
    HistEvent event;
    ::history(lines_, &event, H_ENTER, line.c_str());
    if (line.find('\n') == std::string::npos) history_.add(line);
  }

  void put_line_feed() const {
    FILE* screen = nullptr;
    if (el_get(edit_, EL_GETFP, 1, &screen) != 0 || !screen) return;
    std::fputc('\n', screen);
    std::fflush(screen);
  }

  // The next byte: 1, at the end of the input 0, after a signal that ends the line -1.
  int next_byte(char& byte) {
    for (;;) {
      pollfd wait[2] = {{STDIN_FILENO, POLLIN, 0}, {signals_.fd(), POLLIN, 0}};
      if (poll(wait, 2, -1) < 0) continue;  // a signal: it is in the queue now
      if (wait[1].revents != 0) {
        if (take_signal()) return -1;
        continue;
      }
      const ssize_t n = ::read(STDIN_FILENO, &byte, 1);
      if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      return n > 0 ? 1 : 0;
    }
  }

  // The same of characters.
  int character(wchar_t* out) {
    for (char byte = 0;;) {
      if (const int got = next_byte(byte); got != 1) return got;
      if (add_byte(byte, out)) return 1;
    }
  }

  // What the terminal says between its marks becomes a part of the line, line feeds included.
  unsigned char paste() {
    std::string text;
    for (char byte = 0; !text.ends_with(kPasteEnd);) {
      if (next_byte(byte) != 1) return CC_EOF;  // read() knows a signal from the end of the input
      text += byte;
    }
    text = pasted_text(text.substr(0, text.size() - kPasteEnd.size()));
    if (text.empty()) return CC_NORM;
    const LineInfo* now = el_line(edit_);
    if (now->cursor == now->buffer && text.find('\n') != std::string::npos) pasted_beginnings_.insert(first_line(text));
    if (el_insertstr(edit_, text.c_str()) != 0) return CC_ERROR;
    return CC_REFRESH;
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
        paste_.reset();
        stop_until_continued();
        paste_.emplace(screen_);
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

  int screen_;
  SignalQueue& signals_;
  InputHistory& history_;
  bool bold_;
  std::set<std::string> pasted_beginnings_;  // first lines, with their line feeds, of pasted texts that a message began with
  EditLine* edit_ = nullptr;
  History* lines_ = nullptr;
  std::optional<BracketedPaste> paste_;  // while a line is read
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
