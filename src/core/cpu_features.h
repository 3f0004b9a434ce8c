// What the processor can do, as the kernel lists it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace bolide {

struct CpuFacts {
  std::string name;                   // "AMD EPYC 9575F 64-Core Processor"; empty where the kernel names none
  std::vector<std::string> features;  // those that matter to products: avx2, fma, avx512f, avx512_bf16, amx_tile, asimd, bf16, ...
};

// Reads proc/cpuinfo below `root` ("/" in production): "model name", and "flags" (x86) or "Features" (Arm) of the first CPU.
CpuFacts cpu_facts(const std::filesystem::path& root);

}  // namespace bolide
