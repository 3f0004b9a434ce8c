#include "cli/collector.h"

#include "core/error.h"

namespace bolide {

Collector::Collector(size_t sequences, bool logprobs, ResultStream* out) : results_(sequences), logprobs_(logprobs), out_(out) {}

void Collector::bind(std::span<const SequenceId> ids) {
  for (size_t i = 0; i < ids.size(); ++i) indices_[ids[i]] = i;
}

size_t Collector::index_of(SequenceId id) const {
  const auto found = indices_.find(id);
  BOLIDE_CHECK(found != indices_.end());
  return found->second;
}

void Collector::on_prompt_logprobs(SequenceId id, std::span<const float> logprobs) {
  results_[index_of(id)].prompt_logprobs.assign(logprobs.begin(), logprobs.end());
}

void Collector::on_token(const TokenEvent& event) {
  if (!first_token_) first_token_ = Clock::now();
  const size_t index = index_of(event.sequence);
  SequenceResult& result = results_[index];
  result.ids.push_back(event.token_id);
  if (thinking_.empty())
    result.text += event.text;
  else
    result.text += thinking_[index].push(event.text);
  if (logprobs_) {
    result.logprobs.push_back(event.logprob);
    result.top.emplace_back(event.top.begin(), event.top.end());
  }
  stream(index);
}

void Collector::on_finish(const FinishEvent& event) {
  const size_t index = index_of(event.sequence);
  SequenceResult& result = results_[index];
  if (thinking_.empty())
    result.text += event.text;
  else
    result.text += thinking_[index].push(event.text) + thinking_[index].finish();
  result.reason = event.reason;
  result.stop_match = event.stop_match;
  result.stop_token = event.stop_token;
  result.stats = event.stats;
  stream(index);
}

void Collector::stream(size_t index) {
  if (!out_ || index != streaming_) return;
  bool more = true;
  while (more && streaming_ < results_.size()) {
    const SequenceResult& result = results_[streaming_];
    out_->write(std::string_view(result.text).substr(streamed_));
    streamed_ = result.text.size();
    more = result.reason != FinishReason::none;
    if (more) {
      if (results_.size() > 1) out_->write("\n");
      ++streaming_;
      streamed_ = 0;
    }
  }
  out_->flush();
}

}  // namespace bolide
