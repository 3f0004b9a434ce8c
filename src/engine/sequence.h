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
#include "kv/prefix_index.h"

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

  std::vector<int32_t> tokens;     // prompt, then output
  std::vector<ChunkId> chunks;     // of the KV cache; owned by the scheduler's pool
  int32_t computed = 0;            // tokens whose K and V are in the cache, or will be when the steps under way have run
  int32_t under_way = 0;           // tokens that a step under way draws: the sequence has them, but nobody knows them yet
  int32_t drawn_row = 0;           // the row of that step's logits that draws it
  int32_t indexed = 0;             // leading full chunks whose tokens the pool's index knows ...
  PrefixId prefix = kEmptyPrefix;  // ... and under which name
  int32_t part = 0;                // tokens behind them, in the chunk that is not full, that the index knows as well
  bool waited = false;             // a step, for a prompt like its own to be computed
  int32_t cached_tokens = 0;       // of those computed, how many came from other sequences' chunks
  bool cancelled = false;
  int32_t preemptions = 0;
  OutputText text;

  // Tokens that must pass through the model before the sequence can go on: all that it has, those under way included, but never its
  // last one; or, where nothing is to be drawn, those that prompt log-probabilities are read from.
  int32_t goal() const;
  int32_t pending() const { return goal() - computed; }
  int32_t output_tokens() const { return static_cast<int32_t>(tokens.size()) - prompt_tokens; }

  // Prompt log-probabilities: row i reports token i + 1. Rows below next_logprob_row() are known or under way; there is none at or above
  // logprob_rows_end().
  int32_t next_logprob_row() const { return next_logprob_row_; }
  int32_t logprob_rows_end() const { return params.prompt_logprobs ? prompt_tokens - 1 : 0; }
  bool logprobs_known() const { return known_logprob_rows_ >= logprob_rows_end(); }
  void set_prompt_logprob(int32_t row, float logprob);
  // True once, when all of them are there: the caller reports them.
  bool take_prompt_logprobs(std::vector<float>& out);

  // Enters a step with its next `count` tokens and the log-probability rows before `logprob_end` (0: none); `draws`: its last row draws
  // the token after them.
  void enter_step(int32_t count, int32_t logprob_end, bool draws);

  // How the token at `position` is drawn. Position and keys depend on this sequence alone.
  SamplingSpec next_token_spec(int32_t position) const;
  SamplingSpec prompt_logprob_spec(int32_t row) const;
  void collect_penalties(std::vector<SeenToken>& seen, std::vector<LogitBias>& biases) const { history_.collect(seen, biases); }
  bool penalised() const { return history_.active(); }
  // The token that a step has drawn.
  void append(int32_t token);

  void mark_scheduled(Clock::time_point now);
  void mark_token(Clock::time_point now);
  SequenceStats stats(Clock::time_point now) const;

 private:
  PenaltyHistory history_;
  int32_t vocab_with_text_;
  std::vector<float> prompt_logprobs_;
  int32_t next_logprob_row_ = 0, known_logprob_rows_ = 0;
  bool prompt_logprobs_taken_ = false;
  Clock::time_point added_;
  std::optional<Clock::time_point> first_scheduled_, first_token_;
};

}  // namespace bolide
