// Which sequences run in a step and with how many tokens: continuous batching (Yu et al., "Orca", OSDI'22) with prefill cut into
// chunks that share a step with decoding (Agrawal et al., "Sarathi-Serve", arXiv:2403.02310), over KV memory in chunks (Kwon et al.,
// "PagedAttention", arXiv:2309.06180).
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <limits>
#include <vector>

#include "engine/sequence.h"
#include "kv/chunk_pool.h"

namespace bolide {

struct SchedulerLimits {
  int32_t sequences = 1;      // in flight
  int32_t tokens = 512;       // rows of a step
  int32_t logit_rows = 1;     // of a step; at least `sequences`
  int32_t chunk_tokens = 64;  // C
  int32_t kv_chunks = 0;
  int32_t cached_chunks = 0;  // kept at most after their last sequence has gone
  bool share_prefixes = false;
  bool whole_pieces = false;  // EngineOptions::deterministic
  // Of a step: entries of all chunk tables together, and tokens in the penalty histories of the sequences that draw. Sequences that
  // share chunks can have more of both than the cache has room for. Both must do for one sequence of the largest size.
  int32_t chunk_ids = std::numeric_limits<int32_t>::max();
  int32_t history_tokens = std::numeric_limits<int32_t>::max();
};

// A sequence's rows of a step, as the executor gets them: with whole_pieces cut at multiples of C, otherwise in one piece.
// Calls `add(begin, end)` for each piece of tokens [begin, end).
template <typename Add>
void for_each_piece(int32_t begin, int32_t end, const SchedulerLimits& limits, Add&& add) {
  const int32_t size = limits.chunk_tokens;
  while (begin < end) {
    const int32_t next = limits.whole_pieces ? std::min(end, (begin / size + 1) * size) : end;
    add(begin, next);
    begin = next;
  }
}

// One sequence's share of a step: rows for its tokens [begin, begin + tokens).
struct ScheduledWork {
  Sequence* sequence;
  int32_t begin, tokens;
  int32_t logprob_begin, logprob_end;  // prompt positions in those rows whose log-probability rows are wanted
  bool draws;                          // the last row draws the next token
};

// First come, first served, in the order of add(). A step takes the sequences that have one token left to compute first (decoding), then
// prefills that have begun, then new ones from the queue. A sequence is admitted when its chunks for all tokens known so far are free,
// and gets further ones as it grows. When they run out, the youngest sequence gives its chunks back and is computed again later, so the
// oldest always goes on and nobody starves.
//
// Full chunks are published when they enter a step; a sequence that begins with the same tokens takes them over instead of computing
// its own, in the same step already: every op writes the keys and values of all its rows before attention reads any. One token at
// least is left to compute, because logits come from it.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits);

  void add(Sequence& sequence);
  // Forgets it and frees its chunks.
  void remove(Sequence& sequence);
  // The next step, while none is under way. Not empty as long as a sequence has tokens to compute and kv_chunks hold the largest
  // sequence. The sequences count as computed as far as the step takes them: it must be run.
  const std::vector<ScheduledWork>& plan();
  // The step after one that is under way, whose tokens are not known yet: like plan(), but nobody is pre-empted. Empty where a sequence
  // must know its token first (for its penalties), or finds no free chunk to grow into. A sequence whose token under way turns out to end
  // it has its row computed for nothing; its chunks may be given away at once, since steps run one after the other.
  const std::vector<ScheduledWork>& plan_ahead();
  // The sequence has learnt tokens: makes chunks known that are full of known ones.
  void publish(Sequence& sequence);

  int64_t preemptions() const { return preemptions_; }
  int available_chunks() const { return pool_.available(); }
  // Every used chunk belongs to running sequences, one reference each; queues are in order of arrival; free + cached + used = all.
  // Throws an internal error otherwise.
  void check() const;

 private:
  void fill_step();
  bool take_chunks(Sequence& sequence);
  bool grow(Sequence& sequence);
  bool admit(Sequence& sequence);
  void preempt_youngest();
  void release_chunks(Sequence& sequence);
  void schedule(Sequence& sequence);
  bool cut_anywhere(const Sequence& sequence) const;
  int32_t whole_pieces(const Sequence& sequence, int32_t tokens) const;
  int32_t table_entries(const Sequence& sequence, int32_t tokens) const;
  int32_t sharable_chunks(const Sequence& sequence) const;
  void take_over_shared(Sequence& sequence);

  SchedulerLimits limits_;
  ChunkPool pool_;
  std::deque<Sequence*> waiting_;   // in order of arrival; all of them came after every running one
  std::vector<Sequence*> running_;  // in order of arrival
  std::vector<ScheduledWork> work_;
  int32_t tokens_left_ = 0, rows_left_ = 0, chunk_ids_left_ = 0, history_left_ = 0;
  int64_t preemptions_ = 0;
};

}  // namespace bolide
