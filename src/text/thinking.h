// A model's thinking, <think> ... </think>, in streamed text: told apart from the rest, or left out.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bolide {

struct ThinkingPiece {
  std::string text;
  bool thinking;  // the tags belong to it
};

class ThinkingSplitter {
 public:
  // `inside`: the prompt has opened the block already, as some templates do.
  explicit ThinkingSplitter(bool inside) : inside_(inside) {}

  // What can be told apart now; together with finish() all of the text, in order. At most a tag's beginning is held back.
  std::vector<ThinkingPiece> push(std::string_view text);
  // What was held back.
  std::vector<ThinkingPiece> finish();
  bool inside() const { return inside_; }

 private:
  bool inside_;
  std::string held_;
};

class ThinkingFilter {
 public:
  explicit ThinkingFilter(bool inside) : splitter_(inside) {}

  // What can be shown now: at most a tag's beginning is held back. Line feeds behind a hidden block are dropped with it.
  std::string push(std::string_view text);
  // What was held back. Thinking that never ended stays hidden.
  std::string finish();

 private:
  std::string keep(const std::vector<ThinkingPiece>& pieces);
  ThinkingSplitter splitter_;
  bool after_block_ = false;  // nothing but line feeds since the last block
};

// Whether a prompt ends within an opened block.
bool ends_in_thinking(std::string_view prompt);

}  // namespace bolide
