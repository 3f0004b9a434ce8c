// The measuring part of `bolide bench`: sequences through the engine, prefill and decode apart.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/bench_read.h"
#include "cli/signals.h"
#include "cli/spread.h"
#include "engine/engine.h"
#include "exec/step_layout.h"

namespace bolide {

struct BenchCase {
  int32_t prompt = 0;    // tokens prefilled while the clock runs
  int32_t generate = 0;  // tokens decoded while it runs, by each sequence
  int32_t depth = 0;     // tokens in the cache before the clock starts
  int32_t batch = 1;     // sequences side by side; 1 where there is a prompt
  bool is_decode() const { return generate > 0 && prompt == 0; }
  int64_t tokens() const { return int64_t{batch} * (int64_t{prompt} + generate); }
  // Tokens of each sequence when the first clock starts: of a decode test at least one.
  int32_t prompt_tokens() const { return is_decode() ? (depth > 1 ? depth : 1) : depth + prompt; }
  // Tokens to make room for, in each sequence. Sequences decoded side by side begin one after the other, as `rows` rows a step prefill
  // them, and those that wait for the last one grow meanwhile.
  int64_t context(int32_t rows) const;
  std::string label() const;  // "pp512", "tg128 @ d4096", "tg128 x 8", "pp512+tg128"
};

struct BenchSample {
  double seconds = 0;
  double first_token_seconds = 0;  // from the request to its first token; median of the sequences
  // Decode only: tokens/s of the first and of the last quarter of the run, to show throttling and the growing context.
  double first_quarter_rate = 0, last_quarter_rate = 0;
  double mean_start = 0;    // decode only: tokens in the cache of a sequence when the clock started, mean of the sequences
  ReadBandwidth bandwidth;  // decode only: around this repetition
};

struct BenchResult {
  BenchCase test;
  std::vector<BenchSample> samples;
  ReadBandwidth bandwidth;  // around the test
  DeviceState before, after;
  std::vector<double> rates() const;  // tokens/s of each sample
};

struct BenchSettings {
  int32_t repetitions = 5;
  bool warmup = true;
  uint64_t seed = 0;
  int32_t max_num_batched_tokens = 0;  // 0 until the engine has chosen
};

// Token ids below `vocab`, by (seed, place, repetition): what benchmarks use as text.
std::vector<int32_t> random_tokens(int32_t count, int32_t vocab, uint64_t seed, uint64_t place, uint32_t repetition);

class BenchRunner {
 public:
  BenchRunner(Engine& engine, const BenchSettings& settings, const GracefulStop& stop)
      : engine_(engine), settings_(settings), stop_(stop) {}

  // Before a test: a GPU runs a step eagerly the first time and captures it the second, once for each step that may be under way.
  int32_t untimed_runs() const { return engine_.backend().asynchronous() ? 2 * kStepsInFlight : 1; }
  // Prefill: from the end of the depth's tokens to the first output token. A step that holds both the depth's last tokens and the
  // prompt's first ones counts by the prompt's share of its tokens.
  // Prefill and decode together: from the end of the depth's tokens to the last output token.
  // Decode: from the first output token of the sequence that starts last to its last, `generate` tokens later; meanwhile every other
  // sequence has decoded as many. Where the latest measurement of the read bandwidth lies too far back by then, because the prompt was
  // long, it is repeated at that first token, and the clock starts a token later: the caches have been swept.
  // Prompts are random and differ in every repetition and sequence; EOS is ignored; sampling is greedy. Nothing when a signal came.
  // `meter`: the sample says the bandwidth before it; absent in untimed runs.
  std::optional<BenchSample> run_once(const BenchCase& test, int32_t repetition, ReadMeter* meter = nullptr);

 private:
  Engine& engine_;
  const BenchSettings& settings_;
  const GracefulStop& stop_;
};

}  // namespace bolide
