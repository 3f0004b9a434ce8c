// The measuring part of `bolide bench`: one sequence at a time through the engine, prefill and decode apart.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/signals.h"
#include "engine/engine.h"

namespace bolide {

struct BenchCase {
  int32_t prompt = 0;    // tokens prefilled while the clock runs, or
  int32_t generate = 0;  // tokens decoded while it runs
  int32_t depth = 0;     // tokens in the cache before the clock starts
  bool is_decode() const { return generate > 0; }
  int32_t tokens() const { return is_decode() ? generate : prompt; }
  int64_t context() const { return int64_t{depth} + prompt + generate + 2; }
  std::string label() const;  // "pp512", "tg128 @ d4096"
};

struct BenchSample {
  double seconds = 0;
  // Decode only: tokens/s of the first and of the last quarter of the run, to show throttling and the growing context.
  double first_quarter_rate = 0, last_quarter_rate = 0;
};

struct BenchResult {
  BenchCase test;
  std::vector<BenchSample> samples;
  std::vector<double> rates() const;  // tokens/s of each sample
};

// Mean, standard deviation (of a sample; 0 for one), median and extremes. `values` is not empty.
struct Spread {
  double mean = 0, deviation = 0, median = 0, least = 0, most = 0;
};
Spread spread_of(std::vector<double> values);

struct BenchSettings {
  int32_t repetitions = 5;
  bool warmup = true;
  uint64_t seed = 0;
  int32_t max_num_batched_tokens = 512;
};

class BenchRunner {
 public:
  BenchRunner(Engine& engine, const BenchSettings& settings, const GracefulStop& stop)
      : engine_(engine), settings_(settings), stop_(stop) {}

  // Prefill: from the end of the depth's tokens to the first output token. A step that holds both the depth's last tokens and the
  // prompt's first ones counts by the prompt's share of its tokens.
  // Decode: from the first output token to the last, `generate` tokens later.
  // Prompts are random and differ in every repetition; EOS is ignored; sampling is greedy. Nothing when a signal came.
  std::optional<BenchSample> run_once(const BenchCase& test, int32_t repetition);

 private:
  std::vector<int32_t> random_prompt(int32_t tokens, const BenchCase& test, int32_t repetition) const;

  Engine& engine_;
  const BenchSettings& settings_;
  const GracefulStop& stop_;
};

}  // namespace bolide
