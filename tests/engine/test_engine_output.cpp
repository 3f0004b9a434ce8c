// When a sequence ends, what its events carry, and how its text is put together.
#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "catch.h"
#include "engine_fixture.h"

using namespace bolide;
using namespace bolide::test;

namespace {

const std::vector<int32_t> kPrompt = {40, 71, 260, 9, 300, 17};

SamplingParams varied(uint64_t seed, int32_t max_tokens) {
  SamplingParams params = greedy_params(max_tokens);
  params.temperature = 1.0f;
  params.seed = seed;
  return params;
}

}  // namespace

TEST_CASE("max_tokens ends a sequence by length") {
  const std::unique_ptr<Engine> engine = text_engine();
  const Output output = run_one(*engine, kPrompt, greedy_params(7));
  CHECK(output.tokens.size() == 7);
  CHECK(output.reason == FinishReason::length);
  CHECK_FALSE(output.stop_token.has_value());
  CHECK_FALSE(output.stop_match.has_value());
  CHECK(output.stats.prompt_tokens == 6);
  CHECK(output.stats.output_tokens == 7);
  CHECK(output.stats.queue_seconds >= 0);
  CHECK(output.stats.prefill_seconds > 0);
  CHECK(output.stats.decode_seconds > 0);
}

TEST_CASE("the end of the context ends a sequence by length") {
  EngineOptions options = small_options();
  options.ctx_size = 20;
  const std::unique_ptr<Engine> engine = text_engine(options);
  CHECK(engine->info().ctx_size == 20);
  SamplingParams params = greedy_params(1000);
  const Output output = run_one(*engine, kPrompt, params);
  CHECK(output.tokens.size() == 14);
  CHECK(output.reason == FinishReason::length);
}

TEST_CASE("streamed text equals the decoded tokens") {
  const std::unique_ptr<Engine> engine = text_engine();
  for (uint64_t seed = 0; seed < 8; ++seed) {
    SamplingParams params = varied(seed, 40);
    params.skip_special = seed % 2 == 0;
    const Output output = run_one(*engine, kPrompt, params);
    CHECK(output.text == engine->tokenizer()->decode(output.tokens, params.skip_special));
  }
}

TEST_CASE("ids without text are never drawn") {
  const std::unique_ptr<Engine> engine = text_engine();
  const int32_t known = engine->tokenizer()->vocab_size();
  REQUIRE(known < engine->config().vocab);
  SamplingParams params = varied(3, 200);
  params.temperature = 50.0f;  // nearly uniform
  const Output output = run_one(*engine, kPrompt, params);
  CHECK(output.tokens.size() == 200);
  CHECK(*std::max_element(output.tokens.begin(), output.tokens.end()) < known);
}

TEST_CASE("the stop set is the union of all files' end-of-sequence ids") {
  const std::unique_ptr<Engine> engine = text_engine();
  const std::span<const int32_t> ids = engine->eos_ids();
  CHECK(std::vector<int32_t>(ids.begin(), ids.end()) == std::vector<int32_t>{0, 2});  // generation_config.json and tokenizer_config.json
  for (const int32_t eos : {0, 2}) {
    SamplingParams params = greedy_params(5);
    params.ignore_eos = false;
    params.logit_bias = {{eos, 100.0f}};
    const Output stopped = run_one(*engine, kPrompt, params);
    CHECK(stopped.tokens.empty());
    CHECK(stopped.reason == FinishReason::stop);
    CHECK(stopped.stop_token == eos);
    params.ignore_eos = true;
    const Output ignored = run_one(*engine, kPrompt, params);
    CHECK(ignored.tokens == std::vector<int32_t>(5, eos));
    CHECK(ignored.text.empty());  // special tokens are not text
    CHECK(ignored.reason == FinishReason::length);
  }
}

TEST_CASE("stop ids of the request end it even when EOS is ignored") {
  const std::unique_ptr<Engine> engine = text_engine();
  const Output whole = run_one(*engine, kPrompt, greedy_params(20));
  SamplingParams params = greedy_params(20);
  params.stop_token_ids = {whole.tokens[9]};
  const auto first = std::find(whole.tokens.begin(), whole.tokens.end(), whole.tokens[9]);
  const Output output = run_one(*engine, kPrompt, params);
  CHECK(output.tokens == std::vector<int32_t>(whole.tokens.begin(), first));
  CHECK(output.stop_token == whole.tokens[9]);
  CHECK(output.reason == FinishReason::stop);
}

TEST_CASE("stop strings end the text where they begin, over token borders") {
  const std::unique_ptr<Engine> engine = text_engine();
  int spanning = 0;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    // Printable ASCII alone, so that any piece of the text can be a stop string.
    SamplingParams params = varied(seed, 30);
    for (int32_t id = 0; id < engine->tokenizer()->vocab_size(); ++id) {
      const std::string piece = engine->tokenizer()->decode(std::vector<int32_t>{id}, false);
      const bool plain = !piece.empty() && std::all_of(piece.begin(), piece.end(), [](char c) { return c > ' ' && c < 127; });
      if (!plain || engine->tokenizer()->is_special(id)) params.logit_bias.push_back({id, -INFINITY});
    }
    const Output whole = run_one(*engine, kPrompt, params);
    REQUIRE(whole.text.size() > 14);
    const std::string stop = whole.text.substr(10, 4);
    const size_t at = whole.text.find(stop);
    params.stop = {"\x01never", stop};
    const Output cut = run_one(*engine, kPrompt, params);
    CAPTURE(seed, stop);
    CHECK(cut.reason == FinishReason::stop);
    CHECK(cut.stop_match == stop);
    CHECK(cut.text == whole.text.substr(0, at));
    CHECK(std::equal(cut.tokens.begin(), cut.tokens.end(), whole.tokens.begin()));
    if (engine->tokenizer()->decode(std::vector<int32_t>{cut.tokens.back()}, false).size() < stop.size()) ++spanning;
    params.include_stop = true;
    const Output kept = run_one(*engine, kPrompt, params);
    CHECK(kept.text == whole.text.substr(0, at + stop.size()));
    // What looked like the head of a stop string comes out at the end.
    params.stop = {whole.text.substr(whole.text.size() - 3) + "\x01"};
    CHECK(run_one(*engine, kPrompt, params).text == whole.text);
  }
  CHECK(spanning > 0);
}

TEST_CASE("log-probabilities come as asked for") {
  // Without a tokenizer every id may be drawn, so the token of a greedy step is the most probable one.
  const std::unique_ptr<Engine> engine = Engine::load(reference_source("tiny-qwen2-bf16"), small_options());
  SamplingParams params = greedy_params(6);
  const Output none = run_one(*engine, kPrompt, params);
  for (const auto& top : none.top) CHECK(top.empty());
  CHECK(none.prompt_logprob_calls == 0);
  for (const int32_t n : {0, 1, kMaxTopLogprobs}) {
    params.logprobs = n;
    const Output output = run_one(*engine, kPrompt, params);
    CHECK(output.tokens == none.tokens);
    REQUIRE(output.top.size() == 6);
    for (size_t i = 0; i < 6; ++i) {
      REQUIRE(output.top[i].size() == static_cast<size_t>(n));
      CHECK(output.logprobs[i] < 0.0f);
      if (n == 0) continue;
      CHECK(output.top[i][0].id == output.tokens[i]);
      CHECK(output.top[i][0].logprob == output.logprobs[i]);
      CHECK(std::is_sorted(output.top[i].begin(), output.top[i].end(), [](const auto& a, const auto& b) { return a.logprob > b.logprob; }));
    }
  }
}

TEST_CASE("a prompt can be scored without drawing anything") {
  const std::unique_ptr<Engine> engine = text_engine();
  SamplingParams params = greedy_params(3);
  params.prompt_logprobs = true;
  const Output drawn = run_one(*engine, kPrompt, params);
  params.max_tokens = 0;
  const Output scored = run_one(*engine, kPrompt, params);
  CHECK(scored.tokens.empty());
  CHECK(scored.reason == FinishReason::length);
  CHECK(scored.prompt_logprob_calls == 1);
  REQUIRE(scored.prompt_logprobs.size() == kPrompt.size());
  for (size_t i = 1; i < kPrompt.size(); ++i) CHECK(std::abs(scored.prompt_logprobs[i] - drawn.prompt_logprobs[i]) < 1e-3f);
  const Output single = run_one(*engine, {7}, params);
  CHECK(single.prompt_logprob_calls == 1);
  REQUIRE(single.prompt_logprobs.size() == 1);
  CHECK(std::isnan(single.prompt_logprobs[0]));
  params.prompt_logprobs = false;
  CHECK(run_one(*engine, kPrompt, params).reason == FinishReason::length);
}

TEST_CASE("penalties and biases reach the draw") {
  const std::unique_ptr<Engine> engine = text_engine();
  SamplingParams params = greedy_params(60);
  params.logit_bias = {{100, 60.0f}};
  CHECK(run_one(*engine, kPrompt, params).tokens == std::vector<int32_t>(60, 100));
  params.logit_bias = {{100, 60.0f}, {100, -INFINITY}};  // the last one counts
  const Output banned = run_one(*engine, kPrompt, params);
  CHECK(std::count(banned.tokens.begin(), banned.tokens.end(), 100) == 0);
  // A bias of 20 outweighs the model until frequency penalties of 2 each have eaten it up.
  params.logit_bias = {{100, 30.0f}};
  params.frequency_penalty = 2.0f;
  const Output eaten = run_one(*engine, kPrompt, params);
  const auto times = std::count(eaten.tokens.begin(), eaten.tokens.end(), 100);
  CHECK(times > 5);
  CHECK(times < 30);
}

TEST_CASE("a cancelled sequence ends with the next step") {
  EngineOptions options = small_options();
  options.max_num_seqs = 2;
  const std::unique_ptr<Engine> engine = text_engine(options);
  Collector sink;
  SequenceId doomed = 0;
  sink.on_each_token = [&](const TokenEvent& event) {
    if (event.sequence == doomed && sink.outputs[doomed].tokens.size() == 3) engine->cancel(doomed);
  };
  doomed = engine->add(kPrompt, greedy_params(50), sink);
  const SequenceId other = engine->add(kPrompt, greedy_params(10), sink);
  const SequenceId queued = engine->add(kPrompt, greedy_params(10), sink);
  engine->cancel(queued);
  engine->cancel(987654);  // unknown: nothing happens
  run_all(*engine);
  CHECK(sink.outputs[doomed].reason == FinishReason::cancelled);
  CHECK(sink.outputs[doomed].tokens.size() == 3);
  CHECK(sink.outputs[queued].reason == FinishReason::cancelled);
  CHECK(sink.outputs[queued].tokens.empty());
  CHECK(sink.outputs[other].reason == FinishReason::length);
  CHECK(sink.outputs[other].tokens.size() == 10);
}

TEST_CASE("a sink that throws ends its own sequence alone") {
  EngineOptions options = small_options();
  options.max_num_seqs = 2;
  const std::unique_ptr<Engine> engine = text_engine(options);
  Collector bad, good;
  bad.on_each_token = [](const TokenEvent&) { throw std::runtime_error("the pipe is closed"); };
  const SequenceId lost = engine->add(kPrompt, greedy_params(9), bad);
  const SequenceId kept = engine->add(kPrompt, greedy_params(9), good);
  CHECK_THROWS_WITH(engine->step(), "the pipe is closed");
  run_all(*engine);
  CHECK(bad.outputs[lost].reason == FinishReason::cancelled);
  CHECK(good.outputs[kept].tokens.size() == 9);
  CHECK(good.outputs[kept].tokens == run_one(*engine, kPrompt, greedy_params(9)).tokens);
}

TEST_CASE("a sink may add the next sequence") {
  const std::unique_ptr<Engine> engine = text_engine();
  struct Chain : Collector {
    Engine* engine = nullptr;
    int left = 3;
    void on_finish(const FinishEvent& event) override {
      Collector::on_finish(event);
      if (left-- > 0) engine->add(kPrompt, greedy_params(left == 1 ? 0 : 2), *this);
    }
  } chain;
  chain.engine = engine.get();
  engine->add(kPrompt, greedy_params(2), chain);
  run_all(*engine);
  CHECK(chain.finished.size() == 4);
}
