#include "decode_timing.h"

#include "core/error.h"
#include "cuda/read_bandwidth.h"

namespace bolide::attention_bench {
namespace {

constexpr int32_t kLayers = 8;

struct Load {
  const char* what;
  std::vector<int32_t> lengths;
  Heads heads{16, 8, 128};
  int32_t chunk = 64;
};

std::vector<Load> loads() {
  std::vector<Load> all{
      {"256 x 560", std::vector<int32_t>(256, 560)},
      {"16 x 2,000", std::vector<int32_t>(16, 2000)},
      {"64 x 1,024", std::vector<int32_t>(64, 1024)},
      {"8 x 8,192", std::vector<int32_t>(8, 8192)},
      {"256 x 100 to 2,048", {}},
      {"16 x 64", std::vector<int32_t>(16, 64)},
      {"256 x 560, chunks of 16", std::vector<int32_t>(256, 560), {16, 8, 128}, 16},
      {"256 x 560, 16/2 heads", std::vector<int32_t>(256, 560), {16, 2, 128}},
      {"256 x 560, 14/2 x 64", std::vector<int32_t>(256, 560), {14, 2, 64}},
  };
  for (int32_t i = 0; i < 256; ++i) all[4].lengths.push_back(100 + i * 97 % 256 * 1948 / 255);
  return all;
}

struct Entry {
  std::string name;
  std::function<bool(CudaContext&, const AttentionParameters&)> fits;
  Kernel run;
};

// `run` with dependent launch as it is in a step, or without.
Kernel launched(bool dependent, const Kernel& run) {
  return [=](CudaContext& context, const AttentionParameters& p, const CudaSite& site) {
    context.dependent_launch = dependent;
    run(context, p, site);
    context.dependent_launch = false;
  };
}

std::vector<Entry> kernels() {
  const auto many_fits = [](CudaContext& context, const AttentionParameters& p) {
    context.dependent_launch = context.compute_capability >= 90;
    const bool fits = attention_many_fits(context, p);
    context.dependent_launch = false;
    return fits;
  };
  const Kernel rows = [](CudaContext& context, const AttentionParameters& p, const CudaSite& site) {
    attention_rows(context, p, context.capacity.sequences, true, {}, site);
  };
  return {{"rows", [](CudaContext&, const AttentionParameters& p) { return attention_rows_fits(p); }, rows},
          {"many", many_fits, launched(false, attention_many)},
          {"many, launched early", many_fits, launched(true, attention_many)}};
}

}  // namespace

void measure_decode(Device& device, const std::string& filter, int runs) {
  fmt::print(
      "\nOne row each of sequences of so many positions; heads 16/8 x 128 and C = 64 unless named; {} layers in turn, median of {} runs\n",
      kLayers, runs);
  for (const Load& load : loads()) {
    for (const DType dtype : {DType::bf16, DType::f8}) {
      const Problem problem(load.heads, load.chunk, load.lengths, kLayers, dtype);
      std::vector<Span> spans;
      for (size_t s = 0; s < load.lengths.size(); ++s) spans.push_back({static_cast<int32_t>(s), load.lengths[s] - 1, 1});
      Step step(device, problem, spans, 0);
      device.reserve(step.capacity(), load.heads);
      const double read = measure_cuda_read_bandwidth(device.context);
      for (const Entry& e : kernels()) {
        if (e.name.find(filter) == std::string::npos || !e.fits(device.context, step.parameters())) continue;
        const double seconds = step.time_layers(e.run, runs), rate = step.kv_bytes() / seconds;
        fmt::print("{:<26} {:<9} {:<22} {:>8.1f} us {:>7.0f} GB/s {:>6.1f} % of {:.0f}\n", load.what, dtype_name(dtype), e.name,
                   seconds * 1e6, rate * 1e-9, 100.0 * rate / read, read * 1e-9);
        std::fflush(stdout);
      }
    }
  }
}

}  // namespace bolide::attention_bench
