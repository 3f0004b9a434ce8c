// One request on its way: its tokens, how far the cache holds them, and what sampling and streaming remember.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/output_text.h"
#include "engine/penalty_history.h"
#include "kv/chunk_allocator.h"

namespace bolide {

class Sequence {
 public:
  using Clock = std::chrono::steady_clock;

  // `max_output`: tokens that may still be drawn, bounded by max_tokens and the context. `vocab_with_text`: ids from here on are
  // never drawn, 0 = all may be.
  Sequence(SequenceId id, std::vector<int32_t> prompt, const SamplingParams& params, OutputSink& sink, const Tokenizer* tokenizer,
           int32_t max_output, int32_t vocab_with_text);

  const SequenceId id;
  const SamplingParams params;
  OutputSink& sink;
  const int32_t prompt_tokens;
  const int32_t max_output;

  std::vector<int32_t> tokens;  // prompt, then output
  std::vector<ChunkId> chunks;  // of the KV cache; owned by the scheduler's allocator
  int32_t computed = 0;         // tokens whose K and V are in the cache
  bool cancelled = false;
  int32_t preemptions = 0;
  OutputText text;

  // Tokens that must pass through the model before the sequence can go on: all known ones, or, where nothing is to be drawn, those
  // that prompt log-probabilities are read from.
  int32_t goal() const;
  int32_t pending() const { return goal() - computed; }
  int32_t output_tokens() const { return static_cast<int32_t>(tokens.size()) - prompt_tokens; }

  // Prompt log-probabilities: row i reports token i + 1. Rows below next_logprob_row() are done; there is none at or above
  // logprob_rows_end().
  int32_t next_logprob_row() const { return next_logprob_row_; }
  int32_t logprob_rows_end() const { return params.prompt_logprobs ? prompt_tokens - 1 : 0; }
  void set_prompt_logprob(int32_t row, float logprob);
  // True once, when all of them are there: the caller reports them.
  bool take_prompt_logprobs(std::vector<float>& out);

  // How the next token is drawn. Position and keys depend on this sequence alone.
  SamplingSpec next_token_spec() const;
  SamplingSpec prompt_logprob_spec(int32_t row) const;
  void collect_penalties(std::vector<SeenToken>& seen, std::vector<LogitBias>& biases) const { history_.collect(seen, biases); }
  void append(int32_t token);

  void mark_scheduled(Clock::time_point now);
  void mark_token(Clock::time_point now);
  SequenceStats stats(Clock::time_point now) const;

 private:
  PenaltyHistory history_;
  int32_t vocab_with_text_;
  std::vector<float> prompt_logprobs_;
  int32_t next_logprob_row_ = 0;
  bool prompt_logprobs_taken_ = false;
  Clock::time_point added_;
  std::optional<Clock::time_point> first_scheduled_, first_token_;
};

}  // namespace bolide
