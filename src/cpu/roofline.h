// The two ceilings of this machine, measured: how fast all threads together read memory, and multiply and add in float32.
#pragma once

#include <cstddef>
#include <vector>

#include "core/thread_pool.h"
#include "cpu/mapped_memory.h"

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

// A buffer in shares, one for every thread, and passes over it.
class ReadBuffer {
 public:
  ReadBuffer(ThreadPool& pool, size_t bytes);  // throws MemoryError
  size_t share() const { return share_; }      // bytes of one thread
  // Every thread reads `bytes` of its share, from `offset` on, as so many streams (1, 2 or 4): bytes/s of all together.
  double pass(size_t offset, size_t bytes, int streams);

 private:
  ThreadPool& pool_;
  size_t share_;
  MappedMemory memory_;
  std::vector<float> sinks_;  // a cache line apart: sums that nothing needs, so that no reading is left out
};

// The memory's half again and again, each time within some 40 ms: the buffer is kept, and so is the pattern found fastest at first.
class CpuReadProbe {
 public:
  CpuReadProbe(ThreadPool& pool, size_t bytes);  // throws MemoryError
  double measure();                              // bytes/s now: the median of a few passes

 private:
  double next_pass(int streams);

  ReadBuffer buffer_;
  size_t piece_, at_ = 0;  // of a thread's share: a pass reads on where the one before ended, and finds nothing in a cache
  int streams_ = 1;
};

}  // namespace bolide
