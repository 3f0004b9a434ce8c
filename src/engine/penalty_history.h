// Which tokens a sequence has seen, kept up to date token by token, for the penalties of sampling.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/sampling_params.h"

namespace bolide {

class PenaltyHistory {
 public:
  // Does nothing, at no cost, when `params` asks for no penalty.
  PenaltyHistory(const SamplingParams& params, std::span<const int32_t> prompt);

  bool active() const { return active_; }

  // `tokens`: the sequence with the new output token at its end.
  void push(std::span<const int32_t> tokens);

  // What a SamplingSpec's row carries: ids under the repetition penalty (those of the last repeat_last_n tokens) in `seen`; ids
  // outside that window, on which only the additive penalties of earlier output act, as biases next to the request's own.
  void collect(std::vector<SeenToken>& seen, std::vector<LogitBias>& biases) const;

 private:
  struct Entry {
    int32_t id;
    int32_t output_count;
    int32_t window_count;  // occurrences among the last repeat_last_n tokens
  };
  Entry& entry(int32_t id);
  void enter_window(std::span<const int32_t> tokens);

  bool active_;
  int32_t window_;  // -1 = all
  float presence_, frequency_;
  std::vector<LogitBias> own_biases_;  // the request's logit_bias, one entry per id
  std::vector<Entry> entries_;         // in order of first occurrence
  std::unordered_map<int32_t, size_t> index_;
};

}  // namespace bolide
