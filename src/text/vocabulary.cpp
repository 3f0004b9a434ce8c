#include "text/vocabulary.h"

#include "core/error.h"

namespace bolide {

size_t Vocabulary::slot(std::string_view token, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t i = hash & mask;
  while (slots_[i].entry != 0) {
    if (slots_[i].hash == hash && view(entries_[slots_[i].entry - 1]) == token) return i;
    i = (i + 1) & mask;
  }
  return i;
}

void Vocabulary::grow() {
  std::vector<Slot> former(slots_.empty() ? 1024 : slots_.size() * 2);
  former.swap(slots_);
  const size_t mask = slots_.size() - 1;
  for (const Slot& slot : former) {
    if (slot.entry == 0) continue;
    size_t i = slot.hash & mask;
    while (slots_[i].entry != 0) i = (i + 1) & mask;
    slots_[i] = slot;
  }
}

void Vocabulary::add(std::string_view token, int32_t id) {
  BOLIDE_CHECK(id >= 0 && token.size() < UINT32_MAX && entries_.size() < UINT32_MAX / 4);
  if (entries_.size() * 2 >= slots_.size()) grow();
  const auto hash = static_cast<uint32_t>(hash_bytes(token, seed_));
  Slot& at = slots_[slot(token, hash)];
  if (at.entry == 0) {
    entries_.push_back({arena_.size(), static_cast<uint32_t>(token.size()), id});
    arena_.append(token);
    at = {static_cast<uint32_t>(entries_.size()), hash};
  } else {
    entries_[at.entry - 1].id = id;
  }
  if (static_cast<size_t>(id) >= by_id_.size()) by_id_.resize(static_cast<size_t>(id) + 1, 0);
  by_id_[static_cast<size_t>(id)] = at.entry;
}

int32_t Vocabulary::find(std::string_view token) const {
  if (slots_.empty()) return -1;
  const uint32_t found = slots_[slot(token, static_cast<uint32_t>(hash_bytes(token, seed_)))].entry;
  return found == 0 ? -1 : entries_[found - 1].id;
}

std::optional<std::string_view> Vocabulary::token(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= by_id_.size() || by_id_[static_cast<size_t>(id)] == 0) return std::nullopt;
  return view(entries_[by_id_[static_cast<size_t>(id)] - 1]);
}

}  // namespace bolide
