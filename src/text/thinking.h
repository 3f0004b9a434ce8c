// Leaves a model's thinking, <think> ... </think>, out of streamed text.
#pragma once

#include <string>
#include <string_view>

namespace bolide {

class ThinkingFilter {
 public:
  // `inside`: the prompt has opened the block already, as some templates do.
  explicit ThinkingFilter(bool inside) : inside_(inside) {}

  // What can be shown now: at most a tag's beginning is held back. Line feeds behind a hidden block are dropped with it.
  std::string push(std::string_view text);
  // What was held back. Thinking that never ended stays hidden.
  std::string finish();
  bool inside() const { return inside_; }

 private:
  bool inside_;
  bool after_block_ = false;  // nothing but line feeds since the last block
  std::string held_;
};

// Whether a prompt ends within an opened block.
bool ends_in_thinking(std::string_view prompt);

}  // namespace bolide
