// Shared prefixes, pieces that do not depend on neighbours, and a long life with a cache that is too small.
#include <algorithm>
#include <cstring>
#include <deque>
#include <random>
#include <set>

#include "catch.h"
#include "deferred_backend.h"
#include "engine_fixture.h"

using namespace bolide;
using namespace bolide::test;

namespace {

// Most begin with one of three texts of different lengths.
std::vector<Request> requests_with_common_prefixes(int count, unsigned seed) {
  std::mt19937 random(seed);
  const auto token = [&] { return static_cast<int32_t>(random() % 300); };
  std::vector<std::vector<int32_t>> beginnings(3);
  for (const auto& [index, length] : {std::pair{0u, 40}, {1u, 16}, {2u, 7}}) {
    for (int i = 0; i < length; ++i) beginnings[index].push_back(token());
  }
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    Request request;
    if (random() % 5 != 0) request.prompt = beginnings[random() % 3];
    for (auto more = 1 + random() % 20; more > 0; --more) request.prompt.push_back(token());
    request.params = greedy_params(1 + static_cast<int32_t>(random() % 24));
    request.params.temperature = i % 2 == 0 ? 0.0f : 0.9f;
    request.params.seed = static_cast<uint64_t>(i);
    request.params.logprobs = 2;
    if (i % 3 == 0) request.params.repetition_penalty = 1.2f;
    requests.push_back(request);
  }
  return requests;
}

EngineOptions deterministic_options() {
  EngineOptions options = small_options();
  options.ctx_size = 96;
  options.chunk_tokens = 8;
  options.max_num_batched_tokens = 40;
  options.max_logprob_rows = 0;
  options.deterministic = true;
  return options;
}

// Each with an engine's whole attention, nothing of it cached.
std::vector<Output> run_alone(const std::vector<Request>& requests) {
  EngineOptions options = deterministic_options();
  options.prefix_cache = false;
  const std::unique_ptr<Engine> engine = text_engine(options);
  std::vector<Output> outputs;
  for (const Request& request : requests) outputs.push_back(run_one(*engine, request.prompt, request.params));
  return outputs;
}

// Bit by bit.
bool same(const Output& a, const Output& b) {
  const auto same_floats = [](const std::vector<float>& x, const std::vector<float>& y) {
    return x.size() == y.size() && (x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0);
  };
  const auto same_top = [](const std::vector<TokenLogprob>& x, const std::vector<TokenLogprob>& y) {
    return std::equal(x.begin(), x.end(), y.begin(), y.end(),
                      [](const auto& p, const auto& q) { return p.id == q.id && std::memcmp(&p.logprob, &q.logprob, sizeof(float)) == 0; });
  };
  return a.tokens == b.tokens && a.text == b.text && a.reason == b.reason && same_floats(a.logprobs, b.logprobs) &&
         std::equal(a.top.begin(), a.top.end(), b.top.begin(), b.top.end(), same_top);
}

int64_t cached_tokens(const std::vector<Output>& outputs) {
  int64_t sum = 0;
  for (const Output& output : outputs) sum += output.stats.cached_tokens;
  return sum;
}

}  // namespace

TEST_CASE("deterministic: batched, pre-empted and cached equal alone, bit by bit") {
  const std::vector<Request> requests = requests_with_common_prefixes(60, 7);
  const std::vector<Output> alone = run_alone(requests);
  const int64_t token_bytes = text_engine()->config().kv_bytes_per_token(DType::f32);
  struct Setting {
    int32_t sequences;
    int64_t kv_tokens;  // 0: all that is needed
    bool prefix_cache;
  };
  for (const Setting& setting :
       {Setting{9, 0, true}, Setting{9, 0, false}, Setting{9, 120, true}, Setting{9, 120, false}, Setting{2, 0, true}}) {
    EngineOptions options = deterministic_options();
    options.max_num_seqs = setting.sequences;
    options.prefix_cache = setting.prefix_cache;
    options.kv_cache_bytes = setting.kv_tokens * token_bytes;
    const std::unique_ptr<Engine> engine = text_engine(options);
    for (int run = 0; run < 2; ++run) {  // the second one finds what the first one left
      CAPTURE(setting.sequences, setting.kv_tokens, setting.prefix_cache, run);
      const std::vector<Output> outputs = run_together(*engine, requests);
      int preemptions = 0;
      for (size_t i = 0; i < requests.size(); ++i) {
        CAPTURE(i);
        CHECK(same(outputs[i], alone[i]));
        preemptions += outputs[i].stats.preemptions;
      }
      CHECK((preemptions > 0) == (setting.kv_tokens > 0));
      CHECK((cached_tokens(outputs) > 0) == setting.prefix_cache);
    }
  }
}

TEST_CASE("without whole pieces a cached prefix changes results by rounding alone") {
  const std::vector<Request> requests = requests_with_common_prefixes(30, 8);
  const std::vector<Output> alone = run_alone(requests);
  const int64_t token_bytes = text_engine()->config().kv_bytes_per_token(DType::f32);
  for (const bool ahead : {false, true}) {
    for (const int64_t kv_tokens : {0, 120}) {
      EngineOptions options = deterministic_options();
      options.deterministic = false;
      options.max_num_seqs = 6;
      options.kv_cache_bytes = kv_tokens * token_bytes;
      DeferredBackend* backend = nullptr;
      const std::unique_ptr<Engine> engine = ahead ? deferred_engine(options, backend) : text_engine(options);
      int64_t cached = 0;
      for (int run = 0; run < 2; ++run) {  // the second one finds what the first one left, chunks that are not full included
        const std::vector<Output> outputs = run_together(*engine, requests);
        CAPTURE(ahead, kv_tokens, run);
        CHECK(cached_tokens(outputs) > (kv_tokens == 0 ? std::exchange(cached, cached_tokens(outputs)) : 0));
        for (size_t i = 0; i < requests.size(); ++i) {
          CAPTURE(i);
          CHECK(outputs[i].tokens == alone[i].tokens);
          REQUIRE(outputs[i].logprobs.size() == alone[i].logprobs.size());
          for (size_t t = 0; t < alone[i].logprobs.size(); ++t) CHECK(std::abs(outputs[i].logprobs[t] - alone[i].logprobs[t]) < 1e-3f);
        }
      }
    }
  }
}

TEST_CASE("several sequences of one prompt share it up to its last full chunk") {
  EngineOptions options = deterministic_options();
  options.max_num_seqs = 5;
  const std::unique_ptr<Engine> engine = text_engine(options);
  Request request;
  for (int32_t i = 0; i < 45; ++i) request.prompt.push_back(7 * i % 300);
  request.params = greedy_params(10);
  request.params.temperature = 1.0f;
  std::vector<Request> requests;
  for (uint64_t key = 0; key < 5; ++key) {
    requests.push_back(request);
    requests.back().params.sequence_key = key;
  }
  const std::vector<Output> outputs = run_together(*engine, requests);
  CHECK(outputs[0].stats.cached_tokens == 0);
  for (size_t i = 1; i < 5; ++i) {
    CHECK(outputs[i].stats.cached_tokens == 40);
    CHECK(outputs[i].tokens != outputs[0].tokens);
  }
  const std::vector<Output> again = run_together(*engine, requests);
  for (size_t i = 0; i < 5; ++i) {
    CHECK(again[i].stats.cached_tokens == 40);
    CHECK(same(again[i], outputs[i]));
  }
}

TEST_CASE("soak: two thousand requests, random cancellations, a cache that is too small") {
  const std::vector<Request> requests = requests_with_common_prefixes(2000, 21);
  EngineOptions options = deterministic_options();
  options.max_num_seqs = 9;
  options.kv_cache_bytes = text_engine()->config().kv_bytes_per_token(DType::f32) * 136;
  const std::unique_ptr<Engine> engine = text_engine(options);
  std::mt19937 random(5);
  Collector sink;
  std::map<SequenceId, size_t> request_of;
  std::deque<SequenceId> open;  // in order of arrival
  size_t next = 0, cancels = 0;
  int64_t oldest_steps = 0, longest = 0;
  while (next < requests.size() || !open.empty()) {
    while (next < requests.size() && open.size() < 30 && random() % 4 != 0) {
      const SequenceId id = engine->add(requests[next].prompt, requests[next].params, sink);
      request_of[id] = next++;
      open.push_back(id);
    }
    if (!open.empty() && random() % 25 == 0) {
      engine->cancel(open[random() % open.size()]);
      ++cancels;
    }
    const SequenceId oldest = open.empty() ? 0 : open.front();
    const bool more = engine->step();
    std::erase_if(open, [&](SequenceId id) { return sink.outputs.contains(id) && sink.outputs.at(id).reason != FinishReason::none; });
    REQUIRE(more == !open.empty());
    // Nobody starves: once a sequence is the oldest, each step brings it a piece of its prompt or a token nearer to its end.
    oldest_steps = !open.empty() && open.front() == oldest ? oldest_steps + 1 : 0;
    longest = std::max(longest, oldest_steps);
    REQUIRE(oldest_steps <= 96 / 8 + 2 * 24 + 2);
  }
  CHECK(sink.finished.size() == requests.size());
  CHECK(std::set<SequenceId>(sink.finished.begin(), sink.finished.end()).size() == requests.size());
  size_t cancelled = 0;
  int preemptions = 0;
  std::vector<Request> sample;
  std::vector<const Output*> got;
  for (const auto& [id, output] : sink.outputs) {
    cancelled += output.reason == FinishReason::cancelled ? 1 : 0;
    preemptions += output.stats.preemptions;
    if (output.reason != FinishReason::cancelled && request_of.at(id) % 20 == 0) {
      sample.push_back(requests[request_of.at(id)]);
      got.push_back(&output);
    }
  }
  CHECK(cancelled > 0);
  CHECK(cancelled <= cancels);
  CHECK(preemptions > 50);
  const std::vector<Output> alone = run_alone(sample);
  for (size_t i = 0; i < sample.size(); ++i) CHECK(same(*got[i], alone[i]));
  CHECK_FALSE(engine->step());
}
