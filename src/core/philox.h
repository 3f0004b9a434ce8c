// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3", SC'11).
// A number depends on its key and counter alone, so a sampled token never depends on its batch mates, on the thread
// that drew it or on the backend. Compiles for host and device.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define BOLIDE_HOST_DEVICE __host__ __device__
#else
#define BOLIDE_HOST_DEVICE
#endif

namespace bolide {

struct Philox4 {
  uint32_t v[4];
};

BOLIDE_HOST_DEVICE inline Philox4 philox4x32(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
  uint32_t c0 = static_cast<uint32_t>(counter_low), c1 = static_cast<uint32_t>(counter_low >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_high), c3 = static_cast<uint32_t>(counter_high >> 32);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c0;
    const uint64_t p1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// Uniform in (0, 1): never 0, never 1, so that its logarithm is finite. 23 bits, because with 24 the half would be rounded away and
// the largest number would become 1.
BOLIDE_HOST_DEVICE inline float uniform_open(uint32_t bits) { return (static_cast<float>(bits >> 9) + 0.5f) * 0x1p-23f; }

// The uniform number of vocabulary entry `id` for the token at `position` of a sequence keyed by `seed`.
// Four neighbouring ids share one Philox block: number `id & 3` of sampling_block.
BOLIDE_HOST_DEVICE inline Philox4 sampling_block(uint64_t seed, uint64_t sequence, uint32_t position, uint32_t id) {
  return philox4x32(seed, (static_cast<uint64_t>(position) << 32) | (id >> 2), sequence);
}
BOLIDE_HOST_DEVICE inline float sampling_uniform(uint64_t seed, uint64_t sequence, uint32_t position, uint32_t id) {
  return uniform_open(sampling_block(seed, sequence, position, id).v[id & 3]);
}

}  // namespace bolide
