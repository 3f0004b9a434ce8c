// Random traffic for a scheduler, and a model of the KV cache that its steps are run on.
#pragma once

#include <random>
#include <vector>

#include "catch.h"
#include "engine/scheduler.h"

namespace bolide::test {

// Limits and requests that follow from a seed. Every request fits `kContext` tokens, and the limits allow one of that size.
class Traffic {
 public:
  static constexpr int32_t kContext = 60;
  explicit Traffic(unsigned seed) : seed_(seed), random_(seed) {}

  int32_t any(int32_t low, int32_t high) { return std::uniform_int_distribution<int32_t>(low, high)(random_); }
  // True once in `n` times.
  bool once_in(int32_t n) { return any(1, n) == 1; }

  SchedulerLimits limits() {
    SchedulerLimits limits;
    limits.sequences = any(1, 6);
    limits.chunk_tokens = any(1, 9);
    limits.whole_pieces = seed_ % 2 == 0;
    limits.tokens = limits.sequences + any(0, 20) + (limits.whole_pieces ? limits.chunk_tokens : 0);
    limits.logit_rows = limits.sequences + any(0, 4) + (seed_ % 4 == 0 ? limits.chunk_tokens : 0);
    const int32_t most = (kContext + limits.chunk_tokens - 1) / limits.chunk_tokens;
    limits.kv_chunks = most + any(0, 12);
    limits.share_prefixes = seed_ % 3 != 0;
    limits.cached_chunks = any(0, limits.kv_chunks);
    limits.chunk_ids = most * (1 + (limits.whole_pieces ? limits.tokens / limits.chunk_tokens + 1 : 0)) + any(0, 3 * most);
    limits.history_tokens = kContext + any(0, 200);
    return limits;
  }

  struct Arrival {
    std::vector<int32_t> prompt;
    int32_t max_output;
    bool prompt_logprobs;
    float repetition_penalty;
  };
  // Few different beginnings, so that many are shared; some prompts that an earlier one, or what it was answered, begins with. `least`:
  // of output tokens.
  Arrival arrival(int32_t least, int32_t penalised_once_in) {
    Arrival arrival;
    if (!earlier_.empty() && once_in(3)) {
      arrival.prompt = earlier_[static_cast<size_t>(any(0, static_cast<int32_t>(earlier_.size()) - 1))];
      if (once_in(2)) arrival.prompt.resize(static_cast<size_t>(any(1, static_cast<int32_t>(arrival.prompt.size()))));
      for (int32_t more = any(0, 5); more > 0 && arrival.prompt.size() < 40; --more) arrival.prompt.push_back(drawn(earlier_.size()));
    } else {
      arrival.prompt.assign(static_cast<size_t>(any(1, 40)), any(1, 3));
      for (int32_t i = any(0, 2); i > 0; --i)
        arrival.prompt[static_cast<size_t>(any(0, static_cast<int32_t>(arrival.prompt.size()) - 1))] = any(1, 3);
    }
    earlier_.push_back(arrival.prompt);
    if (arrival.prompt.size() == 1) least = 1;  // nothing to compute otherwise
    arrival.max_output = any(least, kContext - static_cast<int32_t>(arrival.prompt.size()));
    arrival.prompt_logprobs = arrival.max_output == 0 || once_in(5);
    arrival.repetition_penalty = once_in(penalised_once_in) ? 1.1f : 1.0f;
    return arrival;
  }

  // The token that every row of a sequence draws: sequences that begin alike go different ways.
  static int32_t drawn(SequenceId id) { return 1 + static_cast<int32_t>(id % 3); }

 private:
  unsigned seed_;
  std::mt19937 random_;
  std::vector<std::vector<int32_t>> earlier_;
};

// What stands in every slot of a KV cache when steps run one after the other: of a token, a number made of it and all before it.
class KvContents {
 public:
  explicit KvContents(const SchedulerLimits& limits)
      : size_(static_cast<size_t>(limits.chunk_tokens)), slots_(static_cast<size_t>(limits.kv_chunks) * size_, kNothing) {}

  // Runs a step as it is handed over, tokens that are not known yet being Traffic::drawn(), and checks that each of its rows can attend to
  // its own sequence's tokens and that nothing else was written over.
  void run(const std::vector<ScheduledWork>& work, const std::vector<ChunkCopy>& copies) {
    for (const ChunkCopy& copy : copies) copy_chunk(copy, copies);
    for (const ScheduledWork& item : work) write(item);
    for (const ScheduledWork& item : work) {
      const std::vector<uint64_t> expected = numbers(*item.sequence, item.begin + item.tokens);
      for (size_t i = 0; i < expected.size(); ++i) REQUIRE(slot(*item.sequence, i) == expected[i]);
    }
    copied += static_cast<int64_t>(copies.size());
  }

  int64_t copied = 0;

 private:
  static constexpr uint64_t kNothing = 0;

  void copy_chunk(const ChunkCopy& copy, const std::vector<ChunkCopy>& all) {
    REQUIRE(copy.tokens > 0);
    REQUIRE(static_cast<size_t>(copy.tokens) <= size_);
    for (const ChunkCopy& other : all) {
      REQUIRE(other.to != copy.from);
      REQUIRE((&other == &copy || other.to != copy.to));
    }
    uint64_t* to = slots_.data() + static_cast<size_t>(copy.to) * size_;
    const uint64_t* from = slots_.data() + static_cast<size_t>(copy.from) * size_;
    std::fill_n(to, size_, kNothing);
    std::copy_n(from, copy.tokens, to);
  }
  void write(const ScheduledWork& item) {
    const std::vector<uint64_t> all = numbers(*item.sequence, item.begin + item.tokens);
    for (auto i = static_cast<size_t>(item.begin); i < all.size(); ++i) slot(*item.sequence, i) = all[i];
  }
  uint64_t& slot(const Sequence& sequence, size_t position) {
    return slots_.at(static_cast<size_t>(sequence.chunks.at(position / size_)) * size_ + position % size_);
  }
  static std::vector<uint64_t> numbers(const Sequence& sequence, int32_t count) {
    std::vector<uint64_t> out;
    uint64_t number = 1;
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
      const int32_t token = i < sequence.tokens.size() ? sequence.tokens[i] : Traffic::drawn(sequence.id);
      number = number * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(token);
      out.push_back(number);
    }
    return out;
  }

  size_t size_;
  std::vector<uint64_t> slots_;
};

}  // namespace bolide::test
