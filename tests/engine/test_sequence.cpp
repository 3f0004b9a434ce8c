#include <cmath>

#include "catch.h"
#include "core/error.h"
#include "engine/sequence.h"
#include "engine_fixture.h"

using namespace bolide;
using namespace bolide::test;

TEST_CASE("a draw is keyed by seed, sequence key and the token's index alone") {
  Collector sink;
  SamplingParams params;
  params.seed = 7;
  params.sequence_key = 3;
  params.top_k = -1;
  params.temperature = 0.5f;
  params.top_p = 0.9f;
  params.min_p = 0.1f;
  params.logprobs = 4;
  Sequence a(1, {5, 6, 7}, params, sink, nullptr, 10, 200);
  Sequence b(99, {5, 6, 7}, params, sink, nullptr, 10, 200);
  for (int32_t position = 3; position < 6; ++position) {
    const SamplingSpec spec = a.next_token_spec(position);
    CHECK(spec.seed == 7);
    CHECK(spec.sequence == 3);
    CHECK(b.next_token_spec(position).sequence == 3);
    CHECK(spec.position == static_cast<uint32_t>(position));
    CHECK(spec.target == -1);
    CHECK(spec.top_k == 0);
    CHECK(spec.temperature == 0.5f);
    CHECK(spec.top_p == 0.9f);
    CHECK(spec.min_p == 0.1f);
    CHECK(spec.top_logprobs == 4);
    CHECK(spec.allowed_vocab == 200);
    // Three tokens and then one at a time; each is there, though unknown, as soon as its step is under way.
    a.enter_step(a.pending(), 0, true);
    CHECK(a.pending() == 1);
    a.append(1);
    CHECK(a.goal() == position + 1);
    CHECK(a.pending() == 1);
  }
  params.temperature = 1e-9f;  // dividing by it would overflow
  CHECK(Sequence(2, {1}, params, sink, nullptr, 1, 0).next_token_spec(1).temperature == 0.0f);
}

TEST_CASE("prompt log-probabilities are collected in order and handed over once") {
  Collector sink;
  SamplingParams params;
  params.prompt_logprobs = true;
  Sequence sequence(1, {5, 6, 7}, params, sink, nullptr, 0, 0);
  CHECK(sequence.goal() == 2);
  CHECK(sequence.prompt_logprob_spec(1).target == 7);
  CHECK(sequence.prompt_logprob_spec(1).top_logprobs == 0);
  std::vector<float> out;
  CHECK_THROWS_AS(sequence.set_prompt_logprob(0, -1.0f), Error);  // no step has it
  sequence.enter_step(1, 1, false);
  CHECK(sequence.next_logprob_row() == 1);
  sequence.enter_step(1, 2, false);
  CHECK(sequence.goal() == 0);
  CHECK_THROWS_AS(sequence.set_prompt_logprob(1, -1.0f), Error);
  sequence.set_prompt_logprob(0, -1.0f);
  CHECK_FALSE(sequence.logprobs_known());
  CHECK_FALSE(sequence.take_prompt_logprobs(out));
  sequence.set_prompt_logprob(1, -2.0f);
  CHECK(sequence.logprobs_known());
  REQUIRE(sequence.take_prompt_logprobs(out));
  REQUIRE(out.size() == 3);
  CHECK(std::isnan(out[0]));
  CHECK(out[1] == -1.0f);
  CHECK(out[2] == -2.0f);
  CHECK_FALSE(sequence.take_prompt_logprobs(out));
}
