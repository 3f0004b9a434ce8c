// What sequences take over from each other: full chunks, shared as they are, and behind them the first tokens of another chunk.
#include <utility>

#include "core/error.h"
#include "engine/scheduler.h"

namespace bolide {
namespace {

// A sequence waits a step where that saves it at least so many rows: a step of decoding, which it may add to the run, takes about as long
// as 12 rows of prefill on the CPU and 95 on an H100 (Qwen3-0.6B; README).
constexpr size_t kRowsWorthAStep = 16;

}  // namespace

// Leading tokens that may come from elsewhere: with one left to compute after them, and no row among them that still has to report a
// log-probability. Whole pieces: in full chunks of the prompt only, since output tokens are computed in pieces of their own.
int32_t Scheduler::sharable_tokens(const Sequence& sequence) const {
  if (!limits_.share_prefixes) return 0;
  int32_t tokens = sequence.goal() - 1;
  if (sequence.next_logprob_row() < sequence.logprob_rows_end()) tokens = std::min(tokens, sequence.next_logprob_row());
  if (limits_.whole_pieces) tokens = std::min(tokens, sequence.prompt_tokens) / limits_.chunk_tokens * limits_.chunk_tokens;
  return std::max(tokens, 0);
}

// The first `most` tokens of the sequence's chunk number `chunk`.
std::span<const int32_t> Scheduler::tokens_from(const Sequence& sequence, int32_t chunk, int32_t most) const {
  return std::span(sequence.tokens)
      .subspan(static_cast<size_t>(chunk) * static_cast<size_t>(limits_.chunk_tokens), static_cast<size_t>(most));
}

// Tokens of that chunk that may come from another one; maybe none.
std::span<const int32_t> Scheduler::sharable_part(const Sequence& sequence, int32_t chunk) const {
  const int32_t behind = sharable_tokens(sequence) - chunk * limits_.chunk_tokens;
  return behind > 0 ? tokens_from(sequence, chunk, std::min(behind, limits_.chunk_tokens)) : std::span<const int32_t>();
}

// Goes on with published chunks where the sequence has computed everything up to a chunk's border. Its own chunks for them, if it
// has any, were not used yet.
void Scheduler::take_over_shared(Sequence& sequence) {
  const int32_t size = limits_.chunk_tokens;
  const int32_t last = sharable_tokens(sequence) / size;
  for (int32_t i = sequence.indexed; i < last && sequence.computed == i * size; ++i) {
    const auto found = pool_.find(sequence.prefix, tokens_from(sequence, i, size));
    if (!found) break;
    pool_.share(found->chunk);
    if (const auto at = static_cast<size_t>(i); at < sequence.chunks.size())
      pool_.give_back(std::exchange(sequence.chunks[at], found->chunk));
    else
      sequence.chunks.push_back(found->chunk);
    sequence.prefix = found->prefix;
    sequence.indexed = i + 1;
    sequence.computed += size;
    sequence.cached_tokens += size;
  }
  if (!limits_.whole_pieces && sequence.computed == sequence.indexed * size) take_over_part(sequence);
}

// Goes on behind the first tokens of the chunk that begins most like the sequence's next one. A copy is made before the step's rows are
// computed, so what is copied must have been there before.
void Scheduler::take_over_part(Sequence& sequence) {
  const std::span<const int32_t> wanted = sharable_part(sequence, sequence.indexed);
  if (wanted.empty()) return;
  const auto found = pool_.find_part(sequence.prefix, wanted, [&](ChunkId chunk) { return filled_before(chunk); });
  if (!found) return;
  const auto at = static_cast<size_t>(sequence.indexed);
  const bool has_own = at < sequence.chunks.size(), idle = pool_.references(found->chunk) == 0;
  pool_.share(found->chunk);
  const size_t missing = chunks_of(sequence.goal(), limits_.chunk_tokens) - sequence.chunks.size();
  const bool room = has_own || static_cast<size_t>(pool_.available()) >= missing;
  if (idle && (found->whole || !room)) {
    // Its place is needed, so that what it holds beyond these tokens would be given up anyway.
    if (!found->whole) {
      pool_.retract(found->chunk);
      pool_.publish_part(sequence.prefix, wanted.first(static_cast<size_t>(found->tokens)), found->chunk);
    }
    if (has_own)
      pool_.give_back(std::exchange(sequence.chunks[at], found->chunk));
    else
      sequence.chunks.push_back(found->chunk);
    sequence.part = found->tokens;
  } else {
    if (!has_own) sequence.chunks.push_back(pool_.take().value());
    copies_.push_back({found->chunk, sequence.chunks[at], found->tokens});
  }
  sequence.computed += found->tokens;
  sequence.cached_tokens += found->tokens;
}

// Once a step is planned its copies come before whatever a later step writes.
void Scheduler::let_go_of_sources() {
  BOLIDE_CHECK(copies_.empty() || !work_.empty());
  for (const ChunkCopy& copy : copies_) pool_.give_back(copy.from);
}

// Whether the step being planned computes all that the newcomer could take over, so that it had better begin a step later: forks of one
// prompt compute its last chunk once. `prefix`: of the `shared` full chunks that it takes over anyway.
bool Scheduler::worth_waiting(const Sequence& sequence, PrefixId prefix, int32_t shared) const {
  const std::span<const int32_t> wanted = limits_.whole_pieces ? std::span<const int32_t>() : sharable_part(sequence, shared);
  if (wanted.size() < kRowsWorthAStep) return false;
  const auto tokens = [&](const std::function<bool(ChunkId)>& usable) {
    const auto found = pool_.find_part(prefix, wanted, usable);
    return found ? static_cast<size_t>(found->tokens) : 0;
  };
  if (tokens([](ChunkId) { return true; }) < wanted.size()) return false;
  return tokens([&](ChunkId chunk) { return filled_before(chunk); }) + kRowsWorthAStep <= wanted.size();
}

// A full chunk's contents are there for every later step, and for the rest of the step that fills it; what does not fill a chunk, for
// later steps.
void Scheduler::publish(Sequence& sequence) {
  if (!limits_.share_prefixes || (limits_.whole_pieces && cut_anywhere(sequence))) return;
  const int32_t size = limits_.chunk_tokens;
  int32_t computed = std::min(sequence.computed, static_cast<int32_t>(sequence.tokens.size()));
  if (limits_.whole_pieces) computed = std::min(computed, sequence.prompt_tokens);
  for (int32_t i = sequence.indexed; i < computed / size; ++i) {
    const std::span<const int32_t> tokens = tokens_from(sequence, i, size);
    const ChunkId own = sequence.chunks[static_cast<size_t>(i)];
    if (const auto known = pool_.find(sequence.prefix, tokens)) {
      if (known->chunk != own) pool_.retract(own);  // a part of it may have been found
      sequence.prefix = known->prefix;
    } else {
      sequence.prefix = pool_.publish(sequence.prefix, tokens, own);
      published_in_[static_cast<size_t>(own)] = step_;
    }
    sequence.indexed = i + 1;
    sequence.part = 0;
  }
  if (computed >= sequence.prompt_tokens) publish_part(sequence, sequence.prompt_tokens - sequence.indexed * size);
}

// So many tokens of the chunk behind the indexed ones, unless they are known already.
void Scheduler::publish_part(Sequence& sequence, int32_t tokens) {
  if (limits_.whole_pieces || tokens <= sequence.part) return;
  const ChunkId own = sequence.chunks[static_cast<size_t>(sequence.indexed)];
  pool_.publish_part(sequence.prefix, tokens_from(sequence, sequence.indexed, tokens), own);
  published_in_[static_cast<size_t>(own)] = step_;
  sequence.part = tokens;
}

// Before the sequence's chunks are given back: what it has computed and nobody knows yet. A row under way whose token is not known writes
// behind all that is published.
void Scheduler::publish_rest(Sequence& sequence) {
  if (!limits_.share_prefixes || sequence.chunks.empty()) return;
  const int32_t computed = std::min(sequence.computed, static_cast<int32_t>(sequence.tokens.size()));
  publish_part(sequence, computed - sequence.indexed * limits_.chunk_tokens);
}

}  // namespace bolide
