// Measures this machine's ceilings with the CPU backend's own threads and SIMD: memory read bandwidth and float32 multiply-add rate.
// Usage: roofline [--threads N] [--mib SIZE] [--json]
#include "cpu/roofline.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "core/thread_pool.h"
#include "cpu/cpu_backend.h"

namespace {

struct Options {
  int threads = 0;
  size_t bytes = bolide::kRooflineBytes;
  bool json = false;
};

long number(const std::string& flag, const char* text, long most) {
  char* end = nullptr;
  const long value = text ? std::strtol(text, &end, 10) : 0;
  if (!text || *text == '\0' || *end != '\0' || value < 1 || value > most) {
    throw bolide::UsageError(fmt::format("{} needs a number from 1 to {}", flag, most));
  }
  return value;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--json")
      options.json = true;
    else if (flag == "--threads")
      options.threads = static_cast<int>(number(flag, i + 1 < argc ? argv[++i] : nullptr, 4096));
    else if (flag == "--mib")
      options.bytes = static_cast<size_t>(number(flag, i + 1 < argc ? argv[++i] : nullptr, 1 << 20)) << 20;
    else
      throw bolide::UsageError(fmt::format("unknown flag {}; usage: roofline [--threads N] [--mib SIZE] [--json]", flag));
  }
  return options;
}

void print(const Options& options) {
  const bolide::ThreadBudget budget =
      options.threads > 0 ? bolide::ThreadBudget{options.threads, "as asked for"} : bolide::default_threads();
  bolide::ThreadPool pool(budget.threads);
  const bolide::CpuRoofline roofline = bolide::measure_cpu_roofline(pool, options.bytes);
  if (options.json) {
    fmt::print(
        "{{\"threads\": {}, \"simd\": \"{}\", \"bytes\": {}, \"read_best\": {:.4g}, \"read_median\": {:.4g}, \"fma_best\": {:.4g}, "
        "\"fma_median\": {:.4g}}}\n",
        budget.threads, bolide::cpu_simd_description(), options.bytes, roofline.read_best, roofline.read_median, roofline.fma_best,
        roofline.fma_median);
    return;
  }
  fmt::print("threads         {} ({}), {}\n", budget.threads, budget.reason, bolide::cpu_simd_description());
  fmt::print("memory read     best {:.1f} GB/s, median {:.1f} GB/s\n", roofline.read_best / 1e9, roofline.read_median / 1e9);
  fmt::print("float32 FMA     best {:.0f} GFLOP/s, median {:.0f} GFLOP/s\n", roofline.fma_best / 1e9, roofline.fma_median / 1e9);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    print(parse(argc, argv));
    return 0;
  } catch (const bolide::Error& failure) {
    fmt::print(stderr, "error: {}\n", failure.what());
    return static_cast<int>(failure.code());
  }
}
