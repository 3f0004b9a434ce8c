// The CPU backend: reads weights where they are mapped, SIMD chosen at run time, threads from the affinity mask and cgroup quota.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace bolide {

struct CpuOptions {
  int threads = 0;  // 0 = default_threads()
  // Rounds the activations of a product to bf16 where the weights are bf16 and uses AVX-512 BF16: about 1.6 times the prefill, at bf16's
  // accuracy. The products of a row still do not depend on its batch mates. Error where the CPU has no such instructions.
  bool bf16_products = false;
};
std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options);

// SIMD targets compiled in and the one in use, for --version: "AVX3 (of AVX2 AVX3 AVX3_DL)".
std::string cpu_simd_description();

// Of the SIMD library: "1.0".
std::string highway_version();

}  // namespace bolide
