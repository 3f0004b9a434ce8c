// Tokens and their ids: one arena of bytes and one open-addressing table, so that 150,000 tokens load in milliseconds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/hash.h"

namespace bolide {

class Vocabulary {
 public:
  // A token that is added again has the later id from then on; an id has the token that it was last added with. 0 <= id <= kMaxTokenId is
  // the caller's promise.
  void add(std::string_view token, int32_t id);

  int32_t find(std::string_view token) const;                               // -1 when absent
  std::optional<std::string_view> token(int32_t id) const;                  // valid until the next add
  int32_t id_limit() const { return static_cast<int32_t>(by_id_.size()); }  // highest id plus one
  size_t size() const { return entries_.size(); }                           // distinct tokens

  // visit(token, id) for every distinct token.
  template <class Visit>
  void each(Visit visit) const {
    for (const Entry& e : entries_) visit(view(e), e.id);
  }

 private:
  struct Entry {
    uint64_t offset;
    uint32_t length;
    int32_t id;
  };
  struct Slot {
    uint32_t entry = 0;  // index + 1, 0 = free
    uint32_t hash = 0;   // spares most looks at other tokens' bytes
  };
  std::string_view view(const Entry& e) const { return std::string_view(arena_).substr(e.offset, e.length); }
  // The slot of the token, or the free slot where it belongs.
  size_t slot(std::string_view token, uint32_t hash) const;
  void grow();

  uint64_t seed_ = hash_seed();
  std::string arena_;
  std::vector<Entry> entries_;
  std::vector<Slot> slots_;      // a power of two of them, at most half full
  std::vector<uint32_t> by_id_;  // entry index + 1, 0 = no token
};

}  // namespace bolide
