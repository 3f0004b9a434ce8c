// Receives the sequences of one `generate` call: keeps what they made and streams their text.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/clock.h"
#include "cli/streams.h"
#include "engine/engine.h"
#include "text/thinking.h"

namespace bolide {

struct SequenceResult {
  std::vector<int32_t> ids;
  std::string text;
  std::vector<float> logprobs;                 // per id, when asked for
  std::vector<std::vector<TokenLogprob>> top;  // idem
  std::vector<float> prompt_logprobs;          // per prompt id, when asked for; entry 0 means nothing
  FinishReason reason = FinishReason::none;
  std::optional<std::string> stop_match;
  std::optional<int32_t> stop_token;
  SequenceStats stats;
};

class Collector final : public OutputSink {
 public:
  // With `out`, text goes there as it comes: the first sequence's at once, a later one's when those before it have ended;
  // with several sequences a newline follows each.
  Collector(size_t sequences, bool logprobs, ResultStream* out);
  // From the first token on, thinking is left out of the texts. `inside`: the prompt ends within it.
  void hide_thinking(bool inside) { thinking_.assign(results_.size(), ThinkingFilter(inside)); }

  // Ids in the order of their index, before the first step.
  void bind(std::span<const SequenceId> ids);

  void on_prompt_logprobs(SequenceId id, std::span<const float> logprobs) override;
  void on_token(const TokenEvent& event) override;
  void on_finish(const FinishEvent& event) override;

  const std::vector<SequenceResult>& results() const { return results_; }
  std::optional<Clock::time_point> first_token() const { return first_token_; }

 private:
  size_t index_of(SequenceId id) const;
  void stream(size_t index);

  std::map<SequenceId, size_t> indices_;
  std::vector<SequenceResult> results_;
  std::vector<ThinkingFilter> thinking_;  // empty, or one per sequence
  bool logprobs_;
  ResultStream* out_;
  size_t streaming_ = 0;  // index of the sequence whose text is being written
  size_t streamed_ = 0;   // bytes of it that are out
  std::optional<Clock::time_point> first_token_;
};

}  // namespace bolide
