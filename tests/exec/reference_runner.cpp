#include "reference_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "cpu/cpu_backend.h"
#include "exec/memory_plan.h"

namespace bolide::test {
namespace {

// Ops on tiny shapes gain nothing from more threads than a case asks for.
Backend& cpu(int threads) {
  static std::map<int, std::unique_ptr<Backend>> backends;
  std::unique_ptr<Backend>& backend = backends[threads];
  if (!backend) backend = make_cpu_backend({threads});
  return *backend;
}

// A sequence with as many chunks as it will ever need, in no particular order.
struct Track {
  std::vector<int32_t> tokens;
  std::vector<int32_t> chunks;
  int32_t computed = 0;
};

class StepRunner {
 public:
  StepRunner(const OpenModel& model, const ModelWeights& weights, const RunPlan& plan, int32_t length)
      : plan_(plan), generator_(7), vocab_(model.config.vocab) {
    const int32_t sequences = 1 + plan.companions;
    const int32_t rows = std::min(plan.prefill_rows, length);
    ExecutorOptions options;
    options.chunk_tokens = plan.chunk_tokens;
    options.kv_chunks = chunks_for(length, sequences, plan.chunk_tokens);
    options.kv_dtype = plan.kv_dtype;
    options.capacity = step_capacity(rows * sequences, sequences, rows, length, plan.chunk_tokens);
    executor_ = std::make_unique<Executor>(plan.backend ? *plan.backend : cpu(plan.threads), model.config, weights, options);
    std::vector<int32_t> ids(static_cast<size_t>(options.kv_chunks));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
    std::shuffle(ids.begin(), ids.end(), generator_);
    const auto each = static_cast<size_t>(chunks_for(length, 1, plan.chunk_tokens));
    tracks_.resize(static_cast<size_t>(sequences));
    for (Track& track : tracks_) {
      track.chunks.assign(ids.end() - static_cast<std::ptrdiff_t>(each), ids.end());
      ids.resize(ids.size() - each);
    }
    for (size_t i = 1; i < tracks_.size(); ++i) extend(tracks_[i], static_cast<int32_t>(length) - static_cast<int32_t>(3 * i));
  }

  // One step: `rows` tokens of the main sequence among its companions' (which differ in number). Its rows get these specs.
  std::vector<SampledToken> step(std::span<const int32_t> tokens, const std::vector<SamplingSpec>& specs) {
    Batch batch;
    Track& main = tracks_.front();
    // The main sequence stands in the middle of the step.
    const size_t before = tracks_.size() / 2;
    size_t first_logit = 0;
    for (size_t i = 1; i <= before && i < tracks_.size(); ++i) first_logit += companion(batch, tracks_[i], i);
    main.tokens.insert(main.tokens.end(), tokens.begin(), tokens.end());
    const int32_t row = batch.add_sequence(tokens, main.computed, main.chunks, plan_.chunk_tokens);
    main.computed += static_cast<int32_t>(tokens.size());
    const size_t skipped = tokens.size() - specs.size();
    for (size_t i = 0; i < specs.size(); ++i) batch.add_logits(row + static_cast<int32_t>(skipped + i), specs[i], {}, {});
    for (size_t i = before + 1; i < tracks_.size(); ++i) companion(batch, tracks_[i], i);
    executor_->submit(batch);
    const std::span<const SampledToken> rows = executor_->wait();
    return {rows.begin() + static_cast<std::ptrdiff_t>(first_logit),
            rows.begin() + static_cast<std::ptrdiff_t>(first_logit + specs.size())};
  }

  Executor& executor() { return *executor_; }
  const Track& main() const { return tracks_.front(); }

 private:
  void extend(Track& track, int32_t length) {
    std::uniform_int_distribution<int32_t> any(0, vocab_ - 1);
    while (static_cast<int32_t>(track.tokens.size()) < length) track.tokens.push_back(any(generator_));
  }

  // Its next few tokens, if it has any left; no logits rows.
  size_t companion(Batch& batch, Track& track, size_t index) {
    const auto left = static_cast<int32_t>(track.tokens.size()) - track.computed;
    const int32_t count = std::min({left, static_cast<int32_t>(index), plan_.prefill_rows});
    if (count <= 0) return 0;
    batch.add_sequence(std::span(track.tokens).subspan(static_cast<size_t>(track.computed), static_cast<size_t>(count)), track.computed,
                       track.chunks, plan_.chunk_tokens);
    track.computed += count;
    return 0;
  }

  RunPlan plan_;
  std::mt19937 generator_;
  int32_t vocab_;
  std::unique_ptr<Executor> executor_;
  std::vector<Track> tracks_;
};

SamplingSpec target(int32_t id) {
  SamplingSpec spec;
  spec.target = id;
  spec.top_logprobs = 0;
  return spec;
}

SamplingSpec greedy() {
  SamplingSpec spec;
  spec.top_logprobs = 5;
  return spec;
}

void compare_step(const SampledToken& got, const GreedyStep& expected, size_t index, double margin_above, Deviation& deviation) {
  if (got.id != expected.id && expected.margin > margin_above && deviation.wrong_token.empty()) {
    deviation.wrong_token = fmt::format("step {}: {} instead of {} (margin {:.4f})", index, got.id, expected.id, expected.margin);
  }
  if (got.id == expected.id) deviation.greedy_logprob = std::max(deviation.greedy_logprob, std::abs(got.logprob - expected.logprob));
  if (static_cast<size_t>(got.top_count) != expected.top_logprobs.size()) {
    deviation.wrong_token = fmt::format("step {}: {} top log-probabilities", index, got.top_count);
    return;
  }
  for (size_t i = 0; i < expected.top_logprobs.size(); ++i) {
    deviation.greedy_logprob = std::max(deviation.greedy_logprob, std::abs(got.top_logprobs[i] - expected.top_logprobs[i]));
  }
}

}  // namespace

Deviation run_reference(const OpenModel& model, const ModelWeights& weights, const Reference& reference, const RunPlan& plan,
                        double margin_above) {
  const auto prompt_size = static_cast<int32_t>(reference.prompt.size());
  StepRunner runner(model, weights, plan, prompt_size + plan.greedy_steps);
  Deviation deviation;
  std::vector<SampledToken> rows;
  for (int32_t begin = 0; begin < prompt_size; begin += plan.prefill_rows) {
    const int32_t end = std::min(begin + plan.prefill_rows, prompt_size);
    std::vector<SamplingSpec> specs;
    for (int32_t i = begin; i < end; ++i)
      specs.push_back(i + 1 < prompt_size ? target(reference.prompt[static_cast<size_t>(i) + 1]) : greedy());
    rows = runner.step(std::span(reference.prompt).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)), specs);
    for (int32_t i = begin; i < end && i + 1 < prompt_size; ++i) {
      const double error = std::abs(rows[static_cast<size_t>(i - begin)].logprob - reference.prompt_logprobs[static_cast<size_t>(i)]);
      deviation.prompt_logprob = std::max(deviation.prompt_logprob, error);
    }
  }
  for (size_t i = 0; i < static_cast<size_t>(plan.greedy_steps); ++i) {
    compare_step(rows.back(), reference.greedy[i], i, margin_above, deviation);
    rows = runner.step(std::span(&reference.greedy[i].id, 1), {greedy()});
  }
  return deviation;
}

std::string first_divergence(const OpenModel& model, const ModelWeights& weights, const Reference& reference, double tolerance) {
  const RunPlan plan;
  const auto length = static_cast<int32_t>(reference.prompt.size());
  StepRunner runner(model, weights, plan, length);
  Batch batch;
  batch.add_sequence(reference.prompt, 0, runner.main().chunks, plan.chunk_tokens);
  const std::vector<std::vector<float>> stages = runner.executor().trace(batch);
  if (stages.size() != reference.trace.size()) return fmt::format("{} stages instead of {}", stages.size(), reference.trace.size());
  const size_t last_row = static_cast<size_t>(length - 1) * static_cast<size_t>(model.config.hidden);
  for (size_t stage = 0; stage < stages.size(); ++stage) {
    for (size_t i = 0; i < reference.trace[stage].size(); ++i) {
      const double got = stages[stage][last_row + i], expected = reference.trace[stage][i];
      if (std::abs(got - expected) <= tolerance * std::max(1.0, std::abs(expected))) continue;
      const std::string where =
          stage == 0 ? "after the embedding" : fmt::format("layer {} after {}", (stage - 1) / 2, stage % 2 == 1 ? "attention" : "MLP");
      return fmt::format("{}: {} instead of {} (value {} of the last prompt row)", where, got, expected, i);
    }
  }
  return "";
}

}  // namespace bolide::test
