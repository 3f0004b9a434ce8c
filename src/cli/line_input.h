// Lines that a person types at a terminal: with editing and history through libedit where the build has it, else as the terminal gives
// them.
#pragma once

#include <memory>
#include <string>

#include "cli/input_history.h"
#include "cli/signals.h"

namespace bolide {

enum class InputEnd {
  line,
  end_of_input,  // Ctrl-D on an empty line, or the terminal is gone
  interrupted,   // Ctrl-C
  terminated,    // SIGTERM
};

struct InputLine {
  InputEnd end = InputEnd::line;
  std::string text;    // without its line feed; of `line` alone
  bool begun = false;  // `interrupted`: something had been typed, which is gone
  bool as_is = false;  // it begins with a pasted text of several lines: a message, whatever that begins with
};

class LineInput {
 public:
  virtual ~LineInput() = default;
  // Shows the prompt (not empty) and waits for a line. Lines that hold something go to the history.
  virtual InputLine read(const std::string& prompt) = 0;
};

// Reads standard input and draws on `screen`, both terminals; `signals` and `history` must outlive it. `bold`: the prompt is printed so.
std::unique_ptr<LineInput> make_line_input(int screen, SignalQueue& signals, InputHistory& history, bool bold);

// Line by line, as the terminal itself lets a line be edited.
std::unique_ptr<LineInput> make_plain_input(int screen, SignalQueue& signals, InputHistory& history);

// What to do about SIGTSTP: stops the program, returns when it goes on.
void stop_until_continued();

// "libedit", or why lines cannot be edited; for --version.
std::string line_editing_description();

}  // namespace bolide
