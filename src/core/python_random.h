// The numbers of Python's `random` module for an integer seed, so that workloads which others publish as a Python script can be repeated
// to the token.
//
// Mersenne Twister 19937 (Matsumoto and Nishimura, ACM TOMACS 8, 1998) with its init_by_array; randint by the rejection that CPython
// documents as Random._randbelow_with_getrandbits.
#pragma once

#include <cstdint>

namespace bolide {

class PythonRandom {
 public:
  explicit PythonRandom(uint64_t seed);  // random.seed(seed)

  uint32_t getrandbits(int bits);              // random.getrandbits(bits), 1 to 32 bits
  int64_t randint(int64_t low, int64_t high);  // random.randint(low, high): both ends included, high - low below 2^32 - 1
  double random();                             // random.random(): [0, 1) with 53 bits

 private:
  static constexpr int kWords = 624;
  uint32_t next();
  void twist();

  uint32_t state_[kWords];
  int at_ = kWords;
};

}  // namespace bolide
