#include "engine/sampling_params.h"

#include <cmath>
#include <string_view>

#include "core/error.h"
#include "core/human.h"
#include "exec/memory_plan.h"

namespace bolide {
namespace {

template <typename T>
[[noreturn]] void refuse(std::string_view flag, T value, std::string_view range) {
  throw UsageError(fmt::format("{} {} is outside its range: {}", flag, value, range));
}

// NaN fails every comparison, so each test states what is allowed.
void require_at_least(std::string_view flag, int64_t value, int64_t lowest, std::string_view range) {
  if (!(value >= lowest)) refuse(flag, value, range);
}

void require_id(std::string_view flag, int32_t id, int32_t vocab) {
  if (id < 0 || id >= vocab) refuse(flag, id, fmt::format("ids of this model are 0 to {}", with_commas(vocab - 1)));
}

}  // namespace

void SamplingParams::validate(int32_t vocab) const {
  if (!(temperature >= 0.0f && temperature <= 100.0f)) refuse("--temperature", temperature, "0 (greedy) to 100");
  require_at_least("--top-k", top_k, -1, "1 and more, 0 or -1 = off");
  if (!(top_p > 0.0f && top_p <= 1.0f)) refuse("--top-p", top_p, "above 0, to 1 (off)");
  if (!(min_p >= 0.0f && min_p <= 1.0f)) refuse("--min-p", min_p, "0 (off) to 1");
  if (!(repetition_penalty > 0.0f && repetition_penalty <= 100.0f)) {
    refuse("--repeat-penalty", repetition_penalty, "above 0, to 100; 1 = off");
  }
  require_at_least("--repeat-last-n", repeat_last_n, -1, "0 and more, -1 = all");
  if (!(std::abs(presence_penalty) <= 2.0f)) refuse("--presence-penalty", presence_penalty, "-2 to 2");
  if (!(std::abs(frequency_penalty) <= 2.0f)) refuse("--frequency-penalty", frequency_penalty, "-2 to 2");
  if (logit_bias.size() > static_cast<size_t>(kMaxLogitBiases)) {
    refuse("--logit-bias: a count of", logit_bias.size(), fmt::format("at most {}", with_commas(kMaxLogitBiases)));
  }
  for (const LogitBias& bias : logit_bias) {
    require_id("--logit-bias id", bias.id, vocab);
    if (std::isnan(bias.bias) || bias.bias > 1e6f) refuse("--logit-bias", bias.bias, "a number up to 1e6, or -inf (never this id)");
  }
  require_at_least("--max-tokens", max_tokens, 0, "0 and more");
  for (const std::string& text : stop) {
    if (text.empty()) throw UsageError("--stop is empty: a stop string needs at least one character");
  }
  for (const int32_t id : stop_token_ids) require_id("--stop-token-id", id, vocab);
  if (logprobs < -1 || logprobs > kMaxTopLogprobs) refuse("--logprobs", logprobs, fmt::format("0 to {}", kMaxTopLogprobs));
}

}  // namespace bolide
