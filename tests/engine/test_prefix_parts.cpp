// Sequences that go on behind the first tokens of a chunk that others have begun or filled.
#include <cmath>

#include "catch.h"
#include "deferred_backend.h"
#include "engine_fixture.h"

using namespace bolide;
using namespace bolide::test;

namespace {

EngineOptions part_options() {
  EngineOptions options = small_options();
  options.ctx_size = 96;
  options.chunk_tokens = 8;
  options.max_num_batched_tokens = 40;
  options.max_logprob_rows = 0;
  return options;
}

}  // namespace

TEST_CASE("completions of one prompt fork off its last chunk, which is computed once") {
  for (const int32_t prompt_tokens : {49, 61, 96}) {
    EngineOptions options = part_options();
    options.ctx_size = 128;
    options.chunk_tokens = 32;
    options.max_num_batched_tokens = 128;
    options.max_num_seqs = 5;
    Request request;
    for (int32_t i = 0; i < prompt_tokens; ++i) request.prompt.push_back(7 * i % 300);
    request.params = greedy_params(10);
    request.params.temperature = 1.0f;
    request.params.logprobs = 0;
    std::vector<Request> requests;
    for (uint64_t key = 0; key < 5; ++key) {
      requests.push_back(request);
      requests.back().params.sequence_key = key;
    }
    options.prefix_cache = false;
    std::vector<Output> alone;
    for (const Request& each : requests) alone.push_back(run_one(*text_engine(options), each.prompt, each.params));
    options.prefix_cache = true;
    for (const bool ahead : {false, true}) {
      CAPTURE(prompt_tokens, ahead);
      DeferredBackend* backend = nullptr;
      const std::unique_ptr<Engine> engine = ahead ? deferred_engine(options, backend) : text_engine(options);
      const std::vector<Output> outputs = run_together(*engine, requests);
      // The prompt once, then a row for each of the others' last tokens, and for each token but the last that any of them draws.
      const int64_t computed = prompt_tokens + 4 + 5 * 9;
      CHECK(engine->counters().tokens == computed);
      for (size_t i = 0; i < 5; ++i) {
        CAPTURE(i);
        CHECK(outputs[i].stats.cached_tokens == (i == 0 ? 0 : prompt_tokens - 1));
        CHECK(outputs[i].tokens == alone[i].tokens);
        for (size_t t = 0; t < 10; ++t) CHECK(std::abs(outputs[i].logprobs[t] - alone[i].logprobs[t]) < 1e-3f);
      }
      CHECK(outputs[1].tokens != outputs[0].tokens);
      // All of them from what the first round left.
      for (const Output& output : run_together(*engine, requests)) CHECK(output.stats.cached_tokens == prompt_tokens - 1);
    }
  }
}

TEST_CASE("a context that is full keeps what it knows without a place for a copy") {
  EngineOptions options = part_options();
  options.ctx_size = 64;
  options.chunk_tokens = 32;  // two of them, which one sequence fills
  const std::unique_ptr<Engine> engine = text_engine(options);
  std::vector<int32_t> talk(50);
  for (size_t i = 0; i < talk.size(); ++i) talk[i] = static_cast<int32_t>(11 * i % 300);
  const Output first = run_one(*engine, talk, greedy_params(8));
  talk.insert(talk.end(), first.tokens.begin(), first.tokens.end());
  CHECK(run_one(*engine, talk, greedy_params(6)).stats.cached_tokens == 57);
  std::vector<int32_t> aside = talk;
  aside[40] = 299;  // it goes another way in its second chunk, over which what was there is lost
  const Output other = run_one(*engine, aside, greedy_params(6)), back = run_one(*engine, talk, greedy_params(6));
  CHECK(other.stats.cached_tokens == 40);
  CHECK(back.stats.cached_tokens == 40);
  std::vector<int32_t> early = talk;
  early[10] = 298;  // and here in the first one, which was full
  const Output third = run_one(*engine, early, greedy_params(6)), whole = run_one(*engine, talk, greedy_params(6));
  CHECK(third.stats.cached_tokens == 10);
  CHECK(whole.stats.cached_tokens == 10);
  options.prefix_cache = false;
  const std::unique_ptr<Engine> fresh = text_engine(options);
  CHECK(run_one(*fresh, aside, greedy_params(6)).tokens == other.tokens);
  CHECK(run_one(*fresh, early, greedy_params(6)).tokens == third.tokens);
  for (const Output* output : {&back, &whole}) CHECK(run_one(*fresh, talk, greedy_params(6)).tokens == output->tokens);
}

TEST_CASE("a conversation goes on from what its last turn left, answer included") {
  EngineOptions options = part_options();
  const std::unique_ptr<Engine> engine = text_engine(options);
  std::vector<int32_t> talk;
  for (int32_t i = 0; i < 20; ++i) talk.push_back(11 * i % 300);
  for (int turn = 0; turn < 3; ++turn) {
    const Output output = run_one(*engine, talk, greedy_params(13));
    // The last token drawn was never computed.
    const auto known = static_cast<int32_t>(turn == 0 ? 0 : talk.size() - 3);
    CHECK(output.stats.cached_tokens == known);
    talk.insert(talk.end(), output.tokens.begin(), output.tokens.end());
    talk.insert(talk.end(), {1, 2});
  }
}
