#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "catch.h"
#include "core/cpu_features.h"

using namespace bolide;
namespace fs = std::filesystem;

namespace {

CpuFacts facts_of(const std::string& cpuinfo) {
  const fs::path root = fs::temp_directory_path() / ("bolide-cpuinfo-" + std::to_string(getpid()));
  fs::create_directories(root / "proc");
  std::ofstream(root / "proc/cpuinfo") << cpuinfo;
  const CpuFacts facts = cpu_facts(root);
  fs::remove_all(root);
  return facts;
}

}  // namespace

TEST_CASE("x86: the model's name and the flags of the first CPU that matter here") {
  const CpuFacts facts = facts_of(
      "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9575F\nflags\t\t: fpu sse2 avx2 fma avx512f avx512_bf16\n\n"
      "processor\t: 1\nmodel name\t: Other\nflags\t\t: amx_tile\n");
  CHECK(facts.name == "AMD EPYC 9575F");
  CHECK(facts.features == std::vector<std::string>{"avx2", "fma", "avx512f", "avx512_bf16"});
}

TEST_CASE("Arm: features without a name; a missing or strange file gives nothing") {
  const CpuFacts arm = facts_of("processor\t: 0\nFeatures\t: fp asimd sve bf16\nCPU part\t: 0xd4f\n");
  CHECK(arm.name.empty());
  CHECK(arm.features == std::vector<std::string>{"asimd", "sve", "bf16"});
  CHECK(facts_of("flags\nmodel name\nflagship : avx2\nmodel name:").features.empty());
  CHECK(cpu_facts("/nonexistent").features.empty());
}
