// Which sequences run in a step and with how many tokens: continuous batching (Yu et al., "Orca", OSDI'22) with prefill cut into
// chunks that share a step with decoding (Agrawal et al., "Sarathi-Serve", arXiv:2403.02310), over KV memory in chunks (Kwon et al.,
// "PagedAttention", arXiv:2309.06180).
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <limits>
#include <span>
#include <vector>

#include "backend/ops.h"
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

// Chunks that so many tokens take.
constexpr size_t chunks_of(int64_t tokens, int32_t chunk_tokens) { return static_cast<size_t>((tokens + chunk_tokens - 1) / chunk_tokens); }

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
// its own, in the same step already: every op writes the keys and values of all its rows before attention reads any. Behind them it
// goes on in the chunk, full or not, that begins most like its own tokens (unless whole_pieces): in a copy, which the step makes before
// all else, or in that chunk itself where nobody uses it and nothing is lost. What a sequence leaves in a chunk that is not full is
// published when its prompt is computed and when it gives the chunk back. One token at least is left to compute, because logits come
// from it.
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
  // Of the step that was planned last, to be made before its rows are computed: first tokens of chunks that earlier steps have filled.
  const std::vector<ChunkCopy>& copies() const { return copies_; }
  // The sequence has learnt tokens: makes chunks known that are full of known ones.
  void publish(Sequence& sequence);

  int64_t preemptions() const { return preemptions_; }
  int available_chunks() const { return pool_.available(); }
  // Every used chunk belongs to running sequences, one reference each; queues are in order of arrival; free + cached + used = all.
  // Throws an internal error otherwise.
  void check() const;

 private:
  void begin_step();
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
  // scheduler_sharing.cpp
  int32_t sharable_tokens(const Sequence& sequence) const;
  std::span<const int32_t> tokens_from(const Sequence& sequence, int32_t chunk, int32_t most) const;
  std::span<const int32_t> sharable_part(const Sequence& sequence, int32_t chunk) const;
  bool filled_before(ChunkId chunk) const { return published_in_[static_cast<size_t>(chunk)] < step_; }
  void take_over_shared(Sequence& sequence);
  void take_over_part(Sequence& sequence);
  bool worth_waiting(const Sequence& sequence, PrefixId prefix, int32_t shared) const;
  void publish_part(Sequence& sequence, int32_t tokens);
  void publish_rest(Sequence& sequence);
  void let_go_of_sources();

  SchedulerLimits limits_;
  ChunkPool pool_;
  std::deque<Sequence*> waiting_;   // in order of arrival; all of them came after every running one
  std::vector<Sequence*> running_;  // in order of arrival
  std::vector<ScheduledWork> work_;
  std::vector<ChunkCopy> copies_;      // of the step; until it is planned their sources are in use
  int64_t step_ = 0;                   // number of the step planned last
  std::vector<int64_t> published_in_;  // by chunk: the step that wrote what was published last of it, or a later one
  int32_t tokens_left_ = 0, rows_left_ = 0, chunk_ids_left_ = 0, history_left_ = 0;
  int64_t preemptions_ = 0;
};

}  // namespace bolide
