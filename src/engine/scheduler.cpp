#include "engine/scheduler.h"

#include <span>
#include <utility>

#include "core/error.h"

namespace bolide {

Scheduler::Scheduler(const SchedulerLimits& limits)
    : limits_(limits), pool_(limits.kv_chunks, limits.share_prefixes ? limits.cached_chunks : 0) {
  BOLIDE_CHECK(limits.sequences > 0 && limits.tokens >= limits.sequences && limits.logit_rows >= limits.sequences);
  // A piece must find room beside a row for each of the others.
  BOLIDE_CHECK(!limits.whole_pieces || limits.tokens >= limits.sequences - 1 + limits.chunk_tokens);
  running_.reserve(static_cast<size_t>(limits.sequences));
  work_.reserve(static_cast<size_t>(limits.sequences));
  published_in_.assign(static_cast<size_t>(limits.kv_chunks), 0);
}

void Scheduler::add(Sequence& sequence) { waiting_.push_back(&sequence); }

void Scheduler::remove(Sequence& sequence) {
  release_chunks(sequence);
  running_.erase(std::remove(running_.begin(), running_.end(), &sequence), running_.end());
  waiting_.erase(std::remove(waiting_.begin(), waiting_.end(), &sequence), waiting_.end());
}

const std::vector<ScheduledWork>& Scheduler::plan() {
  begin_step();
  fill_step();
  return work_;
}

const std::vector<ScheduledWork>& Scheduler::plan_ahead() {
  begin_step();
  for (Sequence* sequence : running_) {
    if (sequence->pending() != 1) continue;
    if (sequence->under_way > 0 && sequence->penalised()) return work_;
    if (!take_chunks(*sequence)) return work_;
  }
  fill_step();
  return work_;
}

void Scheduler::begin_step() {
  work_.clear();
  copies_.clear();
  ++step_;
}

void Scheduler::fill_step() {
  tokens_left_ = limits_.tokens;
  rows_left_ = limits_.logit_rows;
  history_left_ = limits_.history_tokens;
  chunk_ids_left_ = limits_.chunk_ids;
  // The oldest goes on in every step: where it comes second, because it is still prefilling, its share is laid aside.
  int32_t kept_ids = 0, kept_history = 0;
  if (!running_.empty() && running_.front()->pending() > 1) {
    take_over_shared(*running_.front());
    kept_ids = table_entries(*running_.front(), std::min(running_.front()->pending(), limits_.tokens));
    kept_history = static_cast<int32_t>(running_.front()->tokens.size());
  }
  chunk_ids_left_ -= kept_ids;
  history_left_ -= kept_history;
  const int64_t preemptions_before = preemptions_;
  // Pre-empting takes from the back, so no sequence that is already in the step loses its chunks.
  for (size_t i = 0; i < running_.size(); ++i) {
    if (running_[i]->pending() == 1 && grow(*running_[i])) schedule(*running_[i]);
  }
  chunk_ids_left_ += kept_ids;
  history_left_ += kept_history;
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
  let_go_of_sources();
}

// Makes room for the token at position `computed`, where there is a chunk for it.
bool Scheduler::take_chunks(Sequence& sequence) {
  while (sequence.chunks.size() < chunks_of(int64_t{sequence.computed} + 1, limits_.chunk_tokens)) {
    const std::optional<ChunkId> chunk = pool_.take();
    if (!chunk) return false;
    sequence.chunks.push_back(*chunk);
  }
  return true;
}

// The same by pre-empting. False when the sequence itself had to give way.
bool Scheduler::grow(Sequence& sequence) {
  while (!take_chunks(sequence)) {
    const bool itself = running_.back() == &sequence;
    preempt_youngest();
    if (itself) return false;
  }
  return true;
}

bool Scheduler::admit(Sequence& sequence) {
  const size_t needed = chunks_of(sequence.goal(), limits_.chunk_tokens);
  // What can be taken over needs no new chunk; as long as nobody uses it, it is no chunk to take for something else either.
  size_t shared = 0, unused = 0;
  PrefixId prefix = kEmptyPrefix;
  for (int32_t i = 0; i < sharable_tokens(sequence) / limits_.chunk_tokens; ++i, ++shared) {
    const auto found = pool_.find(prefix, tokens_from(sequence, i, limits_.chunk_tokens));
    if (!found) break;
    prefix = found->prefix;
    unused += pool_.references(found->chunk) == 0 ? 1 : 0;
  }
  if (!sequence.waited && worth_waiting(sequence, prefix, static_cast<int32_t>(shared))) {
    sequence.waited = true;
    return false;
  }
  // One chunk for each running sequence stays free, so that a newcomer is not pre-empted as soon as one of them grows.
  const size_t kept = running_.size();
  if (static_cast<size_t>(pool_.available()) - unused < needed - shared + kept) return false;
  take_over_shared(sequence);
  while (sequence.chunks.size() < needed) sequence.chunks.push_back(pool_.take().value());
  running_.push_back(&sequence);
  return true;
}

void Scheduler::preempt_youngest() {
  Sequence& youngest = *running_.back();
  BOLIDE_CHECK(youngest.under_way == 0);  // it could not be computed again without the token that it has drawn
  release_chunks(youngest);
  running_.pop_back();
  waiting_.push_front(&youngest);
  ++youngest.preemptions;
  ++preemptions_;
}

void Scheduler::release_chunks(Sequence& sequence) {
  publish_rest(sequence);
  pool_.give_back(sequence.chunks);
  sequence.chunks.clear();
  sequence.computed = sequence.indexed = sequence.part = sequence.cached_tokens = 0;
  sequence.prefix = kEmptyPrefix;
}

// Rows of logits for a prompt's log-probabilities may be too few for a whole piece; then it is cut as they allow.
bool Scheduler::cut_anywhere(const Sequence& sequence) const {
  const bool enough_rows = limits_.logit_rows >= limits_.sequences - 1 + limits_.chunk_tokens;
  return !limits_.whole_pieces || (sequence.params.prompt_logprobs && !enough_rows);
}

// At most `tokens` more, such that prompts end a step at a chunk's border or at their end, and output tokens come one by one.
int32_t Scheduler::whole_pieces(const Sequence& sequence, int32_t tokens) const {
  if (cut_anywhere(sequence)) return tokens;
  const int32_t prompt_end = std::min(sequence.prompt_tokens, sequence.goal());
  if (sequence.computed >= prompt_end) return std::min(tokens, 1);
  const int32_t end = sequence.computed + tokens;
  return (end >= prompt_end ? prompt_end : end / limits_.chunk_tokens * limits_.chunk_tokens) - sequence.computed;
}

// Chunk ids that the executor gets for so many of the sequence's next tokens.
int32_t Scheduler::table_entries(const Sequence& sequence, int32_t tokens) const {
  size_t entries = 0;
  for_each_piece(sequence.computed, sequence.computed + tokens, limits_,
                 [&](int32_t, int32_t end) { entries += chunks_of(end, limits_.chunk_tokens); });
  return static_cast<int32_t>(entries);
}

// Takes as many of the sequence's pending tokens as the rows left in the step allow; none is possible.
void Scheduler::schedule(Sequence& sequence) {
  if (sequence.pending() > 1) take_over_shared(sequence);
  const int32_t begin = std::max(sequence.computed, sequence.next_logprob_row());
  const auto logprob_end = [&](int32_t tokens) {
    return std::max(begin, std::min(sequence.computed + tokens, sequence.logprob_rows_end()));
  };
  const auto draws = [&](int32_t tokens) { return sequence.max_output > 0 && sequence.computed + tokens == sequence.goal(); };
  const auto rows = [&](int32_t tokens) { return logprob_end(tokens) - begin + (draws(tokens) ? 1 : 0); };
  int32_t tokens = whole_pieces(sequence, std::min(sequence.pending(), tokens_left_));
  while (tokens > 0 && rows(tokens) > rows_left_) tokens = whole_pieces(sequence, tokens - 1);
  if (tokens <= 0) return;
  const int32_t entries = table_entries(sequence, tokens);
  const int32_t history = draws(tokens) && sequence.penalised() ? static_cast<int32_t>(sequence.tokens.size()) : 0;
  if (entries > chunk_ids_left_ || history > history_left_) return;
  work_.push_back({&sequence, sequence.computed, tokens, begin, logprob_end(tokens), draws(tokens)});
  tokens_left_ -= tokens;
  rows_left_ -= rows(tokens);
  chunk_ids_left_ -= entries;
  history_left_ -= history;
  sequence.enter_step(tokens, logprob_end(tokens) > begin ? logprob_end(tokens) : 0, draws(tokens));
  publish(sequence);
}

void Scheduler::check() const {
  pool_.check();
  std::vector<int> used(static_cast<size_t>(pool_.total()), 0);
  for (const Sequence* sequence : running_) {
    for (const ChunkId id : sequence->chunks) ++used.at(static_cast<size_t>(id));
    BOLIDE_CHECK(chunks_of(sequence->computed, limits_.chunk_tokens) <= sequence->chunks.size());
    BOLIDE_CHECK(static_cast<size_t>(sequence->indexed) <= sequence->chunks.size());
  }
  for (size_t id = 0; id < used.size(); ++id) BOLIDE_CHECK(pool_.references(static_cast<ChunkId>(id)) == used[id]);
  const auto older = [](const Sequence* a, const Sequence* b) { return a->id < b->id; };
  BOLIDE_CHECK(std::is_sorted(running_.begin(), running_.end(), older));
  BOLIDE_CHECK(std::is_sorted(waiting_.begin(), waiting_.end(), older));
  if (!running_.empty() && !waiting_.empty()) BOLIDE_CHECK(older(running_.back(), waiting_.front()));
  for (const Sequence* sequence : waiting_) BOLIDE_CHECK(sequence->chunks.empty() && sequence->computed == 0 && sequence->under_way == 0);
}

}  // namespace bolide
