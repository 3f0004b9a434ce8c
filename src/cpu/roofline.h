// The two ceilings of this machine, measured: how fast all threads together read memory, and multiply and add in float32.
#pragma once

#include <cstddef>

#include "core/thread_pool.h"

namespace bolide {

struct CpuRoofline {
  double read_best = 0.0;    // bytes/s of the fastest pass
  double read_median = 0.0;  // and of the median pass, same access pattern
  double fma_best = 0.0;     // float32 operations/s, a multiply-add being two
  double fma_median = 0.0;
};

// Reads `bytes` of fresh memory (huge pages where to be had) several times, every thread a share of its own, as one, two and four
// streams of whole vectors; the pattern with the fastest pass counts. Throws MemoryError.
CpuRoofline measure_cpu_roofline(ThreadPool& pool, size_t bytes);
// The memory's half alone: bytes/s of the fastest pass.
double measure_cpu_read_bandwidth(ThreadPool& pool, size_t bytes);

constexpr size_t kRooflineBytes = size_t{1} << 30;  // far beyond any cache

}  // namespace bolide
