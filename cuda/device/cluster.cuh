// Thread block clusters (compute capability 9.0): blocks of one launch that can meet and read each other's shared memory. Elsewhere a
// cluster is one block.
#pragma once

#include <cstdint>

namespace bolide {

constexpr int kMaxCluster = 8;  // the largest portable size

// All threads of all blocks of the cluster meet; stores to shared memory before it can be read after it.
__device__ inline void cluster_barrier() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
  __syncthreads();
#endif
}

// What lies at `local`'s place in the shared memory of block `rank` of the cluster.
__device__ inline float load_from_block(const float* local, int rank) {
#if __CUDA_ARCH__ >= 900
  uint32_t address;
  float value;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
               : "=r"(address)
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(local))), "r"(rank));
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(value) : "r"(address) : "memory");
  return value;
#else
  return *local;
#endif
}

}  // namespace bolide
