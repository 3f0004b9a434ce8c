// What `bolide chat` puts on the terminal: answers on standard output, all else beside them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/streams.h"
#include "text/thinking.h"

namespace bolide {

// A text without what would steer a terminal: control characters other than line feed and tab are shown as \xNN.
std::string without_controls(std::string_view text);

class ChatScreen {
 public:
  // `color`: auto, always or never.
  ChatScreen(const std::string& color, bool quiet);

  // Where prompts and typing are drawn, and say() goes: standard error where it is a terminal, else standard output.
  int fd() const { return fd_; }
  bool colors() const { return side_color_; }
  // A reply to a command, as it is; a line feed follows.
  void say(std::string_view text) const;
  // A remark between answers, dimmed; nothing with --quiet.
  void note(std::string_view text) const;
  // A remark that was asked for.
  void stats(std::string_view text) const;

  // An answer, from begin to end. `hide_thinking`: thinking is left out, else it is dimmed. `inside`: the prompt has opened a block.
  void begin_answer(bool hide_thinking, bool inside);
  void add(std::string_view text);
  void end_answer();
  // Standard output cannot be written any more.
  bool failed() const { return out_.failed(); }

 private:
  void put(const std::vector<ThinkingPiece>& pieces);
  void put_dimmed(std::string_view text) const;

  int fd_;
  bool side_color_, answer_color_, quiet_;
  ResultStream out_;
  ThinkingSplitter splitter_{false};
  ThinkingFilter filter_{false};
  bool hide_ = false;
};

}  // namespace bolide
