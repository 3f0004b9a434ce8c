// (left id, right id) -> rank of the merge: a flat open-addressing table.
#pragma once

#include <cstdint>
#include <vector>

#include "text/hash.h"

namespace bolide {

class MergeTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  // Room for `count` merges.
  explicit MergeTable(size_t count) {
    size_t slots = 16;
    while (slots < count * 2) slots *= 2;
    slots_.resize(slots);
  }

  // A pair that is added again takes the later rank.
  void add(int32_t left, int32_t right, uint32_t rank) {
    const uint64_t key = pair(left, right);
    size_t i = hash_number(key, seed_) & (slots_.size() - 1);
    while (slots_[i].rank != kNone && slots_[i].key() != key) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = {static_cast<uint32_t>(left), static_cast<uint32_t>(right), rank};
  }

  uint32_t rank(int32_t left, int32_t right) const {
    const uint64_t key = pair(left, right);
    size_t i = hash_number(key, seed_) & (slots_.size() - 1);
    while (slots_[i].rank != kNone) {
      if (slots_[i].key() == key) return slots_[i].rank;
      i = (i + 1) & (slots_.size() - 1);
    }
    return kNone;
  }

 private:
  struct Slot {
    uint32_t left = 0, right = 0, rank = kNone;
    uint64_t key() const { return static_cast<uint64_t>(left) << 32 | right; }
  };
  static uint64_t pair(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  uint64_t seed_ = hash_seed();
  std::vector<Slot> slots_;
};

}  // namespace bolide
