#include "core/python_random.h"

#include <algorithm>
#include <bit>

#include "core/error.h"

namespace bolide {

PythonRandom::PythonRandom(uint64_t seed) {
  // CPython hands init_by_array the seed's 32-bit digits, the lowest first; 0 has one.
  const uint32_t key[] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  const int digits = key[1] != 0 ? 2 : 1;
  state_[0] = 19650218u;
  for (int i = 1; i < kWords; ++i) state_[i] = 1812433253u * (state_[i - 1] ^ (state_[i - 1] >> 30)) + static_cast<uint32_t>(i);
  int i = 1;
  const auto advance = [&] {
    if (++i < kWords) return;
    state_[0] = state_[kWords - 1];
    i = 1;
  };
  for (int k = 0; k < std::max(kWords, digits); ++k) {
    const int j = k % digits;
    state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1664525u)) + key[j] + static_cast<uint32_t>(j);
    advance();
  }
  for (int k = 0; k < kWords - 1; ++k) {
    state_[i] = (state_[i] ^ ((state_[i - 1] ^ (state_[i - 1] >> 30)) * 1566083941u)) - static_cast<uint32_t>(i);
    advance();
  }
  state_[0] = 0x80000000u;
}

void PythonRandom::twist() {
  constexpr int kShift = 397;
  for (int i = 0; i < kWords; ++i) {
    const uint32_t y = (state_[i] & 0x80000000u) | (state_[(i + 1) % kWords] & 0x7fffffffu);
    state_[i] = state_[(i + kShift) % kWords] ^ (y >> 1) ^ ((y & 1u) != 0 ? 0x9908b0dfu : 0u);
  }
  at_ = 0;
}

uint32_t PythonRandom::next() {
  if (at_ == kWords) twist();
  uint32_t y = state_[at_++];
  y ^= y >> 11;
  y ^= (y << 7) & 0x9d2c5680u;
  y ^= (y << 15) & 0xefc60000u;
  return y ^ (y >> 18);
}

uint32_t PythonRandom::getrandbits(int bits) {
  BOLIDE_CHECK(bits >= 1 && bits <= 32);
  return next() >> (32 - bits);
}

int64_t PythonRandom::randint(int64_t low, int64_t high) {
  BOLIDE_CHECK(low <= high && high - low < 0xffffffff);
  const auto count = static_cast<uint32_t>(high - low + 1);
  const auto bits = static_cast<int>(std::bit_width(count));
  uint32_t drawn = getrandbits(bits);
  while (drawn >= count) drawn = getrandbits(bits);
  return low + drawn;
}

double PythonRandom::random() {
  const uint32_t a = next() >> 5, b = next() >> 6;
  return (a * 67108864.0 + b) / 9007199254740992.0;
}

}  // namespace bolide
