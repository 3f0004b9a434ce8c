// What a decode kernel is compiled to tell or to suffer beside its work.
#pragma once

#include <cstdint>

namespace bolide::decode {

enum class Probe {
  none,
  clocks,  // adds the first warp's clocks by phase to Parameters::clocks
  delays,  // only under test: each warp, and the thread that brings the stream, sleeps pseudo-random times between its phases
  losses,  // only under test: one block leaves out what it publishes in one phase (Parameters::loss)
};

// Another sequence of sleeps for each warp of each block in each launch. Most are none, a few last longer than a layer.
struct Delays {
  uint32_t state;

  __device__ Delays(uint32_t launch, int warp)
      : state(launch * 0x9E3779B9u ^ (blockIdx.x * 64u + static_cast<uint32_t>(warp)) * 0x85EBCA6Bu) {}
  __device__ void sleep() {
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;  // xorshift
    if (state == 0) state = 1;
    const uint32_t chance = state >> 21;  // of 2048
    if (chance < 512) __nanosleep(chance == 0 ? 20000 : state & 2047);
  }
};

}  // namespace bolide::decode
