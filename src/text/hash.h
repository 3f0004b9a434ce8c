// Hashing for the room's flat tables. The seed differs from run to run, so that no file can be made whose keys all collide.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <string_view>

namespace bolide {

inline uint64_t hash_seed() {
  static const uint64_t seed = [] {
    std::random_device device;
    return (static_cast<uint64_t>(device()) << 32 | device()) | 1;
  }();
  return seed;
}

// Folds a 128-bit product: every input bit reaches every output bit's neighbourhood (the mixing step of wyhash by Wang Yi).
inline uint64_t hash_mix(uint64_t a, uint64_t b) {
  __extension__ typedef unsigned __int128 Wide;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline uint64_t hash_number(uint64_t key, uint64_t seed) { return hash_mix(key ^ seed, 0x9E3779B97F4A7C15u ^ (seed << 1)); }

inline uint64_t hash_bytes(std::string_view bytes, uint64_t seed) {
  uint64_t h = seed ^ bytes.size();
  while (bytes.size() >= 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data(), 8);
    h = hash_mix(h ^ word, 0xA0761D6478BD642Fu ^ seed);
    bytes.remove_prefix(8);
  }
  uint64_t word = 0;
  if (!bytes.empty()) std::memcpy(&word, bytes.data(), bytes.size());
  return hash_mix(h ^ word, 0xE7037ED1A0B428DBu ^ seed);
}

}  // namespace bolide
