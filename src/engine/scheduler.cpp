#include "engine/scheduler.h"

#include <algorithm>

#include "core/error.h"

namespace bolide {
namespace {

size_t chunks_of(int64_t tokens, int32_t chunk_tokens) { return static_cast<size_t>((tokens + chunk_tokens - 1) / chunk_tokens); }

}  // namespace

Scheduler::Scheduler(const SchedulerLimits& limits) : limits_(limits), allocator_(limits.kv_chunks) {
  BOLIDE_CHECK(limits.sequences > 0 && limits.tokens >= limits.sequences && limits.logit_rows >= limits.sequences);
  running_.reserve(static_cast<size_t>(limits.sequences));
  work_.reserve(static_cast<size_t>(limits.sequences));
}

void Scheduler::add(Sequence& sequence) { waiting_.push_back(&sequence); }

void Scheduler::remove(Sequence& sequence) {
  release_chunks(sequence);
  running_.erase(std::remove(running_.begin(), running_.end(), &sequence), running_.end());
  waiting_.erase(std::remove(waiting_.begin(), waiting_.end(), &sequence), waiting_.end());
}

const std::vector<ScheduledWork>& Scheduler::plan() {
  work_.clear();
  tokens_left_ = limits_.tokens;
  rows_left_ = limits_.logit_rows;
  const int64_t preemptions_before = preemptions_;
  // Pre-empting takes from the back, so no sequence that is already in the step loses its chunks.
  for (size_t i = 0; i < running_.size(); ++i) {
    if (running_[i]->pending() == 1 && grow(*running_[i])) schedule(*running_[i]);
  }
  for (Sequence* sequence : running_) {
    if (sequence->pending() > 1) schedule(*sequence);
  }
  // What a pre-emption has just freed is not handed to the queue: the older sequences need it next.
  const bool admissions = preemptions_ == preemptions_before;
  while (admissions && !waiting_.empty() && tokens_left_ > 0 && rows_left_ > 0 &&
         running_.size() < static_cast<size_t>(limits_.sequences) && admit(*waiting_.front())) {
    waiting_.pop_front();
    schedule(*running_.back());
  }
  return work_;
}

// Makes room for the token at position `computed`. False when the sequence itself had to give way.
bool Scheduler::grow(Sequence& sequence) {
  while (sequence.chunks.size() < chunks_of(int64_t{sequence.computed} + 1, limits_.chunk_tokens)) {
    if (const std::optional<ChunkId> chunk = allocator_.allocate()) {
      sequence.chunks.push_back(*chunk);
      continue;
    }
    const bool itself = running_.back() == &sequence;
    preempt_youngest();
    if (itself) return false;
  }
  return true;
}

bool Scheduler::admit(Sequence& sequence) {
  const size_t needed = chunks_of(sequence.goal(), limits_.chunk_tokens);
  // One chunk for each running sequence stays free, so that a newcomer is not pre-empted as soon as one of them grows.
  const size_t kept = running_.size();
  if (static_cast<size_t>(allocator_.free()) < needed + kept) return false;
  for (size_t i = 0; i < needed; ++i) sequence.chunks.push_back(allocator_.allocate().value());
  running_.push_back(&sequence);
  return true;
}

void Scheduler::preempt_youngest() {
  Sequence& youngest = *running_.back();
  release_chunks(youngest);
  youngest.computed = 0;
  running_.pop_back();
  waiting_.push_front(&youngest);
  ++youngest.preemptions;
  ++preemptions_;
}

void Scheduler::release_chunks(Sequence& sequence) {
  for (const ChunkId id : sequence.chunks) allocator_.release(id);
  sequence.chunks.clear();
}

// Takes as many of the sequence's pending tokens as the rows left in the step allow; none is possible.
void Scheduler::schedule(Sequence& sequence) {
  int32_t tokens = std::min(sequence.pending(), tokens_left_);
  const int32_t begin = std::max(sequence.computed, sequence.next_logprob_row());
  const auto logprob_end = [&] { return std::max(begin, std::min(sequence.computed + tokens, sequence.logprob_rows_end())); };
  const auto draws = [&] { return sequence.max_output > 0 && sequence.computed + tokens == sequence.goal(); };
  if (logprob_end() - begin > rows_left_) tokens = begin + rows_left_ - sequence.computed;
  // The row that draws comes after those of the prompt; without room for it, it waits for the next step.
  if (draws() && logprob_end() - begin == rows_left_) --tokens;
  if (tokens <= 0) return;
  work_.push_back({&sequence, tokens, begin, logprob_end(), draws()});
  tokens_left_ -= tokens;
  rows_left_ -= work_.back().logprob_end - begin + (work_.back().draws ? 1 : 0);
}

void Scheduler::check() const {
  allocator_.check();
  size_t used = 0;
  for (const Sequence* sequence : running_) {
    used += sequence->chunks.size();
    for (const ChunkId id : sequence->chunks) BOLIDE_CHECK(allocator_.references(id) == 1);
    BOLIDE_CHECK(chunks_of(sequence->computed, limits_.chunk_tokens) <= sequence->chunks.size());
  }
  BOLIDE_CHECK(used + static_cast<size_t>(allocator_.free()) == static_cast<size_t>(allocator_.total()));
  const auto older = [](const Sequence* a, const Sequence* b) { return a->id < b->id; };
  BOLIDE_CHECK(std::is_sorted(running_.begin(), running_.end(), older));
  BOLIDE_CHECK(std::is_sorted(waiting_.begin(), waiting_.end(), older));
  if (!running_.empty() && !waiting_.empty()) BOLIDE_CHECK(older(running_.back(), waiting_.front()));
  for (const Sequence* sequence : waiting_) BOLIDE_CHECK(sequence->chunks.empty() && sequence->computed == 0);
}

}  // namespace bolide
