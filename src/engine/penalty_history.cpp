#include "engine/penalty_history.h"

#include <algorithm>

namespace bolide {

PenaltyHistory::PenaltyHistory(const SamplingParams& params, std::span<const int32_t> prompt)
    : active_(params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f || params.frequency_penalty != 0.0f),
      // Without a repetition penalty the window has nothing to narrow.
      window_(params.repetition_penalty != 1.0f ? params.repeat_last_n : -1),
      presence_(params.presence_penalty),
      frequency_(params.frequency_penalty) {
  for (const LogitBias& bias : params.logit_bias) {  // an id named twice: the last one counts
    const auto at = std::find_if(own_biases_.begin(), own_biases_.end(), [&](const LogitBias& b) { return b.id == bias.id; });
    if (at == own_biases_.end()) {
      own_biases_.push_back(bias);
    } else {
      *at = bias;
    }
  }
  if (!active_) return;
  for (size_t i = 0; i < prompt.size(); ++i) enter_window(prompt.subspan(0, i + 1));
}

PenaltyHistory::Entry& PenaltyHistory::entry(int32_t id) {
  const auto [at, inserted] = index_.try_emplace(id, entries_.size());
  if (inserted) entries_.push_back({id, 0, 0});
  return entries_[at->second];
}

void PenaltyHistory::enter_window(std::span<const int32_t> tokens) {
  ++entry(tokens.back()).window_count;
  if (window_ >= 0 && tokens.size() > static_cast<size_t>(window_)) {
    --entry(tokens[tokens.size() - 1 - static_cast<size_t>(window_)]).window_count;
  }
}

void PenaltyHistory::push(std::span<const int32_t> tokens) {
  if (!active_) return;
  enter_window(tokens);
  ++entry(tokens.back()).output_count;
}

void PenaltyHistory::collect(std::vector<SeenToken>& seen, std::vector<LogitBias>& biases) const {
  seen.clear();
  biases = own_biases_;
  if (!active_) return;
  for (const Entry& e : entries_) {
    if (e.window_count > 0) {
      seen.push_back({e.id, e.output_count});
    } else if (e.output_count > 0 && (presence_ != 0.0f || frequency_ != 0.0f)) {
      const float penalty = -(presence_ + frequency_ * static_cast<float>(e.output_count));
      const auto own = std::find_if(biases.begin(), biases.begin() + static_cast<std::ptrdiff_t>(own_biases_.size()),
                                    [&](const LogitBias& b) { return b.id == e.id; });
      if (own != biases.begin() + static_cast<std::ptrdiff_t>(own_biases_.size())) {
        own->bias += penalty;  // a row names each id once
      } else {
        biases.push_back({e.id, penalty});
      }
    }
  }
}

}  // namespace bolide
