// Hours of mixed work on one GPU: up to eight sequences at a time, of 1 to thousands of tokens in and out, greedy, drawn and filtered, that
// join, end, stop, are cancelled and pre-empted. Run as test_cuda "[soak]", for BOLIDE_SOAK_SECONDS
// (20 where it is not set), with plans that follow from BOLIDE_SOAK_SEED (1).
//
// What is checked is what is promised: the same mix again gives the same bits, also where every decode step is a launch of its own; a
// sequence alone gives the same tokens each time; nobody gets more than was asked for; and all KV chunks come back.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "catch.h"
#include "engine/engine_fixture.h"
#include "engine/engine_load.h"
#include "exec/memory_plan.h"
#include "gpu.h"

using namespace bolide;
using namespace bolide::cuda_test;
using namespace bolide::test;

namespace {

constexpr const char* kName = "soak";
constexpr int32_t kContext = 8192, kMostTogether = 8;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}
double number_from(const char* variable, double fallback) {
  const char* text = std::getenv(variable);
  return text ? std::stod(text) : fallback;
}

// Widths for which the decode kernel is compiled, for up to eight sequences.
struct Widths {
  const char* name;
  const char* architecture;
  const char* model_type;
  int hidden, heads, kv_heads, head_dim, mlp;
  const char* activation = "silu";
};
constexpr Widths kQwen3Small = {"Qwen3-0.6B", "Qwen3ForCausalLM", "qwen3", 1024, 16, 8, 128, 3072};
constexpr Widths kLlamaSmall = {"Llama-3.2-1B", "LlamaForCausalLM", "llama", 2048, 32, 8, 64, 8192};
constexpr Widths kQwen25Small = {"Qwen2.5-0.5B", "Qwen2ForCausalLM", "qwen2", 896, 14, 2, 64, 4864};  // no multiples of 1,024
constexpr Widths kGemmaSmall = {"Gemma-2B", "GemmaForCausalLM", "gemma", 2048, 8, 1, 256, 16384, "gelu"};

struct ModelSize {
  Widths widths;
  int layers, vocab;
  int whole_sequences;  // of the whole context, that the KV cache holds: more of the others make sequences wait and be pre-empted
};
ModelSource source_of(const ModelSize& size) {
  const Widths& w = size.widths;
  const std::filesystem::path path = scratch_folder() / fmt::format("soak-{}-{}.json", w.model_type, size.layers);
  std::ofstream(path) << fmt::format(
      R"({{"architectures": ["{}"], "model_type": "{}", "attention_bias": false, "eos_token_id": 7, "head_dim": {}, "hidden_act": "{}",
    "hidden_size": {}, "intermediate_size": {}, "max_position_embeddings": 40960, "num_attention_heads": {}, "num_key_value_heads": {},
    "rms_norm_eps": 1e-06, "rope_theta": 1000000, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "num_hidden_layers": {},
    "vocab_size": {}}})",
      w.architecture, w.model_type, w.head_dim, w.activation, w.hidden, w.mlp, w.heads, w.kv_heads, size.layers, size.vocab);
  ModelSource source;
  source.random_shape = path;
  return source;
}
// launches: one for every decode step. Null without a GPU.
std::unique_ptr<Engine> engine_of(const ModelSize& size, bool launches) {
  if (launches) setenv("BOLIDE_DECODE_STEPS", "1", 1);
  auto backend = gpu(kName);
  unsetenv("BOLIDE_DECODE_STEPS");
  if (!backend) return nullptr;
  EngineOptions options;
  options.max_num_seqs = kMostTogether;
  options.ctx_size = kContext;
  options.kv_dtype = DType::bf16;
  options.kv_cache_bytes = int64_t{size.whole_sequences} * kContext * size.layers * 2 * size.widths.kv_heads * size.widths.head_dim * 2;
  options.prefix_cache = false;  // what a sequence finds there was computed in other pieces
  return make_engine(load_engine(source_of(size), options, {std::move(backend), "a test"}));
}

struct Planned {
  Request request;
  size_t cancel_at = 0;  // tokens; 0: never
};
// Streams of sequences: each begins when the one before it in its stream has ended, or the steps that the stream waits have gone by.
struct Mix {
  std::vector<std::vector<Planned>> streams;
  std::vector<int> begins;  // in steps
};

class Planner {
 public:
  Planner(uint64_t seed, int32_t vocab) : random_(seed), vocab_(vocab) {}

  Mix mix() {
    Mix mix;
    const int streams = between(1, kMostTogether);
    for (int i = 0; i < streams; ++i) {
      mix.begins.push_back(i == 0 ? 0 : between(0, 300));
      mix.streams.emplace_back();
      for (int n = between(1, 3); n > 0; --n) mix.streams.back().push_back(planned());
    }
    return mix;
  }
  Planned planned() {
    Planned planned;
    const int32_t prompt = spread(4000), output = spread(3000);
    for (int32_t i = 0; i < prompt; ++i) planned.request.prompt.push_back(between(8, vocab_ - 1));
    SamplingParams& params = planned.request.params;
    params = greedy_params(output);
    const int kind = between(0, 5);
    if (kind >= 2) params.temperature = 0.2f * static_cast<float>(between(1, 8)), params.seed = random_();
    if (kind == 4) params.top_k = between(1, 50), params.top_p = 0.9f;
    if (kind == 5) params.repetition_penalty = 1.2f;
    if (between(0, 3) == 0) params.logprobs = between(0, 5);
    if (between(0, 4) == 0) {
      params.ignore_eos = false;
      for (int i = between(1, 20); i > 0; --i) params.stop_token_ids.push_back(between(0, vocab_ - 1));
    }
    if (between(0, 3) == 0) planned.cancel_at = static_cast<size_t>(between(1, std::max(1, output / 2)));
    return planned;
  }

 private:
  int between(int low, int high) { return low + static_cast<int>(random_() % static_cast<uint64_t>(high - low + 1)); }
  // 1 .. most, as many of every order of magnitude.
  int32_t spread(int32_t most) { return std::min(most, static_cast<int32_t>(std::exp(std::log(most + 1.0) * 1e-6 * between(0, 999999)))); }

  std::mt19937_64 random_;
  int32_t vocab_;
};

struct Totals {
  int64_t mixes = 0, sequences = 0, prompt_tokens = 0, tokens = 0, steps = 0, cancelled = 0, preemptions = 0;
};

// The streams' outputs, in order.
std::vector<Output> run_mix(Engine& engine, const Mix& mix, Totals& totals) {
  Collector sink;
  std::map<SequenceId, size_t> cancel_at;
  sink.on_each_token = [&](const TokenEvent& event) {
    const auto at = cancel_at.find(event.sequence);
    if (at != cancel_at.end() && sink.outputs[event.sequence].tokens.size() == at->second) engine.cancel(event.sequence);
  };
  std::vector<std::vector<SequenceId>> ids(mix.streams.size());
  const auto under_way = [&](size_t s) { return !ids[s].empty() && sink.outputs[ids[s].back()].reason == FinishReason::none; };
  for (int steps = 0;; ++steps) {
    if (steps > 200000) throw std::runtime_error("the engine does not finish");
    bool waiting = false;
    for (size_t s = 0; s < mix.streams.size(); ++s) {
      if (ids[s].size() == mix.streams[s].size() || under_way(s)) continue;
      if (steps < mix.begins[s]) {
        waiting = true;
        continue;
      }
      const Planned& next = mix.streams[s][ids[s].size()];
      ids[s].push_back(engine.add(next.request.prompt, next.request.params, sink));
      if (next.cancel_at > 0) cancel_at[ids[s].back()] = next.cancel_at;
    }
    const bool more = engine.step();
    const bool to_come = waiting || [&] {
      for (size_t s = 0; s < ids.size(); ++s)
        if (ids[s].size() < mix.streams[s].size()) return true;
      return false;
    }();
    if (!more && !to_come) break;
  }
  std::vector<Output> outputs;
  for (const auto& stream : ids)
    for (const SequenceId id : stream) outputs.push_back(sink.outputs.at(id));
  for (const Output& output : outputs) {
    ++totals.sequences;
    totals.prompt_tokens += output.stats.prompt_tokens;
    totals.tokens += static_cast<int64_t>(output.tokens.size());
    totals.cancelled += output.reason == FinishReason::cancelled;
    totals.preemptions += output.stats.preemptions;
  }
  return outputs;
}

void require_same(const Output& got, const Output& expected) {
  REQUIRE(got.tokens == expected.tokens);
  REQUIRE(got.reason == expected.reason);
  REQUIRE(got.stop_token == expected.stop_token);
  REQUIRE(got.logprobs.size() == expected.logprobs.size());
  for (size_t i = 0; i < got.top.size(); ++i) {
    REQUIRE(got.top[i].size() == expected.top[i].size());
    if (!got.top[i].empty()) REQUIRE(std::memcmp(&got.logprobs[i], &expected.logprobs[i], sizeof(float)) == 0);
  }
}
void require_sound(const Output& output, const Planned& planned, int32_t vocab) {
  const SamplingParams& params = planned.request.params;
  const auto count = static_cast<int32_t>(output.tokens.size());
  REQUIRE(count <= params.max_tokens);
  REQUIRE(std::all_of(output.tokens.begin(), output.tokens.end(), [&](int32_t id) { return id >= 0 && id < vocab; }));
  REQUIRE(output.reason != FinishReason::none);
  if (output.reason == FinishReason::length) REQUIRE(count == params.max_tokens);
  if (output.reason == FinishReason::stop) REQUIRE(output.stop_token.has_value());
  if (output.reason == FinishReason::cancelled) REQUIRE(output.tokens.size() == planned.cancel_at);
}

// As many sequences of the whole context as the cache holds find room side by side.
void require_all_chunks(Engine& engine, const ModelSize& size) {
  std::vector<Request> whole;
  for (int i = 0; i < size.whole_sequences; ++i)
    whole.push_back({std::vector<int32_t>(static_cast<size_t>(kContext - 40), 8 + i), greedy_params(39)});
  for (const Output& output : run_together(engine, whole)) {
    REQUIRE(output.tokens.size() == 39);
    REQUIRE(output.stats.preemptions == 0);
  }
}

// False without a GPU.
bool soak(const ModelSize& size, double seconds, uint64_t seed) {
  const auto engine = engine_of(size, false);
  if (!engine) return false;
  const auto launching = engine_of(size, true);
  const auto begin = std::chrono::steady_clock::now();
  Totals totals;
  const auto say = [&] {
    std::printf(
        "soak: %s, %d layers, %lld mixes three times each: %lld sequences (%lld cancelled, %lld pre-emptions), %lld prompt tokens, %lld "
        "tokens, %lld steps, %.0f s\n",
        size.widths.name, size.layers, static_cast<long long>(totals.mixes), static_cast<long long>(totals.sequences),
        static_cast<long long>(totals.cancelled), static_cast<long long>(totals.preemptions), static_cast<long long>(totals.prompt_tokens),
        static_cast<long long>(totals.tokens), static_cast<long long>(engine->counters().steps + launching->counters().steps),
        seconds_since(begin));
    std::fflush(stdout);
  };
  double said = 0.0;
  for (; totals.mixes == 0 || seconds_since(begin) < seconds; ++totals.mixes) {
    const uint64_t of_mix = seed + static_cast<uint64_t>(totals.mixes);
    CAPTURE(size.widths.name, size.layers, of_mix);
    Planner planner(of_mix, size.vocab);
    const Mix mix = planner.mix();
    const std::vector<Output> first = run_mix(*engine, mix, totals), again = run_mix(*engine, mix, totals),
                              launched = run_mix(*launching, mix, totals);
    size_t at = 0;
    for (size_t s = 0; s < mix.streams.size(); ++s) {
      for (size_t i = 0; i < mix.streams[s].size(); ++i, ++at) {
        CAPTURE(s, i, mix.streams[s][i].request.prompt.size(), mix.streams[s][i].request.params.max_tokens);
        require_sound(first[at], mix.streams[s][i], size.vocab);
        require_same(again[at], first[at]);
        require_same(launched[at], first[at]);
      }
    }
    const Planned alone = planner.planned();
    const Output once = run_one(*engine, alone.request.prompt, alone.request.params);
    require_same(run_one(*engine, alone.request.prompt, alone.request.params), once);
    require_same(run_one(*launching, alone.request.prompt, alone.request.params), once);
    if (totals.mixes % 16 == 0) require_all_chunks(*engine, size), require_all_chunks(*launching, size);
    if (seconds_since(begin) - said > 60.0) said = seconds_since(begin), say();
  }
  require_all_chunks(*engine, size);
  require_all_chunks(*launching, size);
  say();
  return true;
}

}  // namespace

TEST_CASE("soak: mixed sequences for a long time", "[.soak]") {
  const double seconds = number_from("BOLIDE_SOAK_SECONDS", 20.0);
  const auto seed = static_cast<uint64_t>(number_from("BOLIDE_SOAK_SEED", 1.0));
  std::printf("soak: %.0f s, seed %llu\n", seconds, static_cast<unsigned long long>(seed));
  if (!soak({kQwen3Small, 6, 16384, 1}, 0.3 * seconds, 1000000 * seed)) return;
  soak({kQwen3Small, 28, 151936, 2}, 0.2 * seconds, 1000000 * seed);
  soak({kLlamaSmall, 4, 16384, 1}, 0.15 * seconds, 1000000 * seed);
  soak({kQwen25Small, 6, 16384, 1}, 0.15 * seconds, 1000000 * seed);
  soak({kGemmaSmall, 3, 16384, 1}, 0.2 * seconds, 1000000 * seed);
}
