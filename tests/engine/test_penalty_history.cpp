#include <algorithm>
#include <map>
#include <random>

#include "catch.h"
#include "engine/penalty_history.h"

using namespace bolide;

namespace {

// What each id's penalties come to, straight from their definitions.
struct Expected {
  std::map<int32_t, int32_t> seen;  // id under the repetition penalty: occurrences in the output
  std::map<int32_t, float> biases;
};

Expected expected(const SamplingParams& params, const std::vector<int32_t>& tokens, size_t prompt) {
  Expected out;
  std::map<int32_t, int32_t> output_counts;
  for (size_t i = prompt; i < tokens.size(); ++i) ++output_counts[tokens[i]];
  const size_t window = params.repeat_last_n < 0 ? tokens.size() : std::min(tokens.size(), static_cast<size_t>(params.repeat_last_n));
  for (size_t i = tokens.size() - window; i < tokens.size(); ++i) out.seen[tokens[i]] = output_counts[tokens[i]];
  for (const LogitBias& bias : params.logit_bias) out.biases[bias.id] = bias.bias;
  for (const auto& [id, count] : output_counts) {
    if (!out.seen.count(id)) out.biases[id] -= params.presence_penalty + params.frequency_penalty * static_cast<float>(count);
  }
  return out;
}

}  // namespace

TEST_CASE("penalty histories equal their definition token by token") {
  for (const int32_t window : {-1, 0, 1, 7, 1000}) {
    SamplingParams params;
    params.repetition_penalty = 1.3f;
    params.presence_penalty = 0.5f;
    params.frequency_penalty = 0.25f;
    params.repeat_last_n = window;
    params.logit_bias = {{3, 1.5f}, {12, -2.0f}};
    std::mt19937 random(4);
    std::vector<int32_t> tokens(20);
    for (int32_t& id : tokens) id = static_cast<int32_t>(random() % 15);
    PenaltyHistory history(params, tokens);
    std::vector<SeenToken> seen;
    std::vector<LogitBias> biases;
    for (int step = 0; step < 40; ++step) {
      history.collect(seen, biases);
      const Expected want = expected(params, tokens, 20);
      std::map<int32_t, int32_t> got_seen;
      for (const SeenToken& token : seen) got_seen[token.id] = token.output_count;
      std::map<int32_t, float> got_biases;
      for (const LogitBias& bias : biases) got_biases[bias.id] = bias.bias;
      CAPTURE(window, step);
      CHECK(got_seen == want.seen);
      CHECK(got_seen.size() == seen.size());
      REQUIRE(got_biases.size() == biases.size());
      REQUIRE(got_biases.size() == want.biases.size());
      for (const auto& [id, value] : want.biases) CHECK(got_biases.at(id) == Approx(value));
      tokens.push_back(static_cast<int32_t>(random() % 15));
      history.push(tokens);
    }
  }
}

TEST_CASE("without penalties nothing is remembered") {
  SamplingParams params;
  params.repeat_last_n = 5;
  params.logit_bias = {{1, 2.0f}};
  std::vector<int32_t> tokens = {1, 2, 3};
  PenaltyHistory history(params, tokens);
  tokens.push_back(4);
  history.push(tokens);
  std::vector<SeenToken> seen;
  std::vector<LogitBias> biases;
  history.collect(seen, biases);
  CHECK(seen.empty());
  REQUIRE(biases.size() == 1);
  CHECK(biases[0].bias == 2.0f);
}

TEST_CASE("the window belongs to the repetition penalty alone") {
  SamplingParams params;
  params.presence_penalty = 1.0f;
  params.repeat_last_n = 1;
  std::vector<int32_t> tokens = {9};
  PenaltyHistory history(params, tokens);
  for (const int32_t id : {5, 6, 7}) {
    tokens.push_back(id);
    history.push(tokens);
  }
  std::vector<SeenToken> seen;
  std::vector<LogitBias> biases;
  history.collect(seen, biases);
  CHECK(seen.size() == 4);
  CHECK(biases.empty());
}
