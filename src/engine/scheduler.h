// Which sequences run in a step and with how many tokens: continuous batching (Yu et al., "Orca", OSDI'22) with prefill cut into
// chunks that share a step with decoding (Agrawal et al., "Sarathi-Serve", arXiv:2403.02310), over KV memory in chunks (Kwon et al.,
// "PagedAttention", arXiv:2309.06180).
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "engine/sequence.h"
#include "kv/chunk_allocator.h"

namespace bolide {

struct SchedulerLimits {
  int32_t sequences = 1;      // in flight
  int32_t tokens = 512;       // rows of a step
  int32_t logit_rows = 1;     // of a step; at least `sequences`
  int32_t chunk_tokens = 64;  // C
  int32_t kv_chunks = 0;
};

// One sequence's share of a step: rows for tokens [sequence.computed, + tokens).
struct ScheduledWork {
  Sequence* sequence;
  int32_t tokens;
  int32_t logprob_begin, logprob_end;  // prompt positions in those rows whose log-probability rows are wanted
  bool draws;                          // the last row draws the next token
};

// First come, first served, in the order of add(). A step takes the sequences that have one token left to compute first (decoding), then
// prefills that have begun, then new ones from the queue. A sequence is admitted when its chunks for all tokens known so far are free,
// and gets further ones as it grows. When they run out, the youngest sequence gives its chunks back and is computed again later, so the
// oldest always goes on and nobody starves.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits);

  void add(Sequence& sequence);
  // Forgets it and frees its chunks.
  void remove(Sequence& sequence);
  // The next step. Not empty as long as a sequence has tokens to compute and kv_chunks hold the largest sequence.
  const std::vector<ScheduledWork>& plan();

  int64_t preemptions() const { return preemptions_; }
  int free_chunks() const { return allocator_.free(); }
  // Every used chunk belongs to exactly one running sequence, queues are in order of arrival. Throws an internal error otherwise.
  void check() const;

 private:
  bool grow(Sequence& sequence);
  bool admit(Sequence& sequence);
  void preempt_youngest();
  void release_chunks(Sequence& sequence);
  void schedule(Sequence& sequence);

  SchedulerLimits limits_;
  ChunkAllocator allocator_;
  std::deque<Sequence*> waiting_;   // in order of arrival; all of them came after every running one
  std::vector<Sequence*> running_;  // in order of arrival
  std::vector<ScheduledWork> work_;
  int32_t tokens_left_ = 0, rows_left_ = 0;
  int64_t preemptions_ = 0;
};

}  // namespace bolide
