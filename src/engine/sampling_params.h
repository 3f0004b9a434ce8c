// What a request asks for. Field names follow vLLM and OpenAI.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "backend/ops.h"

namespace bolide {

struct SamplingParams {
  float temperature = 1.0f;  // 0 = greedy
  int32_t top_k = 0;         // 0 = off
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  int32_t repeat_last_n = -1;  // repetition penalty looks at the last n tokens only; -1 = all
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  std::vector<LogitBias> logit_bias;
  uint64_t seed = 0;
  // Second key of the random numbers: sequences that share a prompt and a seed differ by it. Never depends on what else runs.
  uint64_t sequence_key = 0;

  int32_t max_tokens = std::numeric_limits<int32_t>::max();  // further bounded by the context
  std::vector<std::string> stop;
  bool include_stop = false;
  std::vector<int32_t> stop_token_ids;  // besides the model's EOS ids
  bool ignore_eos = false;
  bool skip_special = true;   // special tokens do not appear in the text

  int32_t logprobs = -1;      // top-N per generated token, -1 = none, at most kMaxTopLogprobs
  bool prompt_logprobs = false;

  // Throws UsageError naming the flag, the value and the allowed range.
  void validate(int32_t vocab) const;
};

}  // namespace bolide
