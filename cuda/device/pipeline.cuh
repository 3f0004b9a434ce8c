// Hopper's asynchronous copies into shared memory and the barriers that order them (PTX ISA, "mbarrier" and "cp.async.bulk.tensor").
// Shared memory is named by its 32-bit address (shared_address).
//
// An mbarrier's phase ends when its arrivals are complete and the bytes announced have arrived; whoever waits names the parity of the
// phase it waits for, from 0. A fresh barrier counts as past a phase of parity 1, which is what a producer's first round wants.
#pragma once

#include <cuda.h>

#include "cuda/device/fault.cuh"

namespace bolide {

__device__ inline uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ inline void init_barrier(uint64_t& barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
}
// After the last init_barrier and before the block's __syncthreads, by the thread that made the barriers.
__device__ inline void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ inline void arrive(uint64_t& barrier) {
  asm volatile("{\n .reg .b64 state;\n mbarrier.arrive.shared::cta.b64 state, [%0];\n}" ::"r"(shared_address(&barrier)) : "memory");
}
// An arrival that announces bytes which copies will bring.
__device__ inline void arrive_expecting(uint64_t& barrier, uint32_t bytes) {
  asm volatile("{\n .reg .b64 state;\n mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1;\n}" ::"r"(shared_address(&barrier)),
               "r"(bytes)
               : "memory");
}
__device__ inline bool phase_is_over(uint64_t& barrier, uint32_t parity) {
  uint32_t over;
  asm volatile("{\n .reg .pred p;\n mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n selp.u32 %0, 1, 0, p;\n}"
               : "=r"(over)
               : "r"(shared_address(&barrier)), "r"(parity)
               : "memory");
  return over != 0;
}

// The same without waiting at all: try_wait above may put the thread to sleep for a while.
__device__ inline bool phase_is_over_now(uint64_t& barrier, uint32_t parity) {
  uint32_t over;
  asm volatile("{\n .reg .pred p;\n mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\n selp.u32 %0, 1, 0, p;\n}"
               : "=r"(over)
               : "r"(shared_address(&barrier)), "r"(parity)
               : "memory");
  return over != 0;
}

// Some seconds at any clock: far beyond the slowest step, so that only a barrier that nobody serves lasts as long.
constexpr long long kStalledCycles = 1ll << 34;

// Waits for the end of the phase of this parity. A wait that never ends would hang the device: it is reported and ends the kernel.
__device__ inline void wait(uint64_t& barrier, uint32_t parity, DeviceFault* fault) {
  if (phase_is_over(barrier, parity)) return;
  const long long start = clock64();
  while (!phase_is_over(barrier, parity)) {
    if (clock64() - start > kStalledCycles) {
      report_fault(fault, DeviceFault::stalled, blockIdx.x, threadIdx.x);
      // Not __trap(): behind a call that does not return, the compiler no longer allots registers by warpgroup.
      asm volatile("trap;");
      return;
    }
  }
}

// The same by a warp that nobody waits for yet: it asks less often, so that the others' requests to shared memory find room.
__device__ inline void wait_at_leisure(uint64_t& barrier, uint32_t parity, DeviceFault* fault) {
  constexpr unsigned kNanoseconds = 100;
  for (int i = 0; i < 100 && !phase_is_over(barrier, parity); ++i) __nanosleep(kNanoseconds);
  wait(barrier, parity, fault);
}

// A place in a ring of kStages slots and the parity of the round.
template <int kStages>
struct RingPlace {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void next() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

// Barriers by number (1 .. 15) of `threads` threads, whole warps, of which some may only arrive.
__device__ inline void meet(int number, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory"); }
__device__ inline void arrive_at(int number, int threads) { asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory"); }

// Ordinary stores to shared memory become visible to copies and matrix products; then the threads meet.
__device__ inline void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ inline void prefetch_map(const CUtensorMap* map) { asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"); }
// What becomes of lines in L2 that a copy reads: `again`, they are the last to leave; `no_more`, the first.
enum class L2Use : int32_t { normal, again, no_more };
__device__ inline uint64_t l2_policy(L2Use use) {
  uint64_t policy;
  if (use == L2Use::again)
    asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  else if (use == L2Use::no_more)
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  else
    asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
// `bytes` consecutive bytes, a multiple of 16 at multiples of 16, to shared memory.
__device__ inline void copy_bytes(void* to, const void* from, uint32_t bytes, uint64_t& barrier, uint64_t policy) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
                   shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(&barrier)), "l"(policy)
               : "memory");
}
__device__ inline void copy_bytes(void* to, const void* from, uint32_t bytes, uint64_t& barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)), "l"(from),
               "r"(bytes), "r"(shared_address(&barrier))
               : "memory");
}
// One box of the map, whose element (x, y) or (x, y, z) is its first, to shared memory; its bytes count at `barrier`.
__device__ inline void copy_box(uint32_t to, const CUtensorMap* map, int x, int y, uint64_t& barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(
          to),
      "l"(map), "r"(x), "r"(y), "r"(shared_address(&barrier)), "l"(policy)
      : "memory");
}
__device__ inline void copy_box(uint32_t to, const CUtensorMap* map, int x, int y, uint64_t& barrier) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
               "l"(map), "r"(x), "r"(y), "r"(shared_address(&barrier))
               : "memory");
}
__device__ inline void copy_box(uint32_t to, const CUtensorMap* map, int x, int y, int z, uint64_t& barrier) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(to),
               "l"(map), "r"(x), "r"(y), "r"(z), "r"(shared_address(&barrier))
               : "memory");
}
// Moves registers between the warpgroups of a block (all four warps call it): a kernel starts with what its launch bounds give.
template <int kRegisters>
__device__ inline void shrink_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void grow_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace bolide
