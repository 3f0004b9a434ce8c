// Checks and measures the CUDA backend's attention kernels by themselves: of prefill, each way of cutting the work that the wgmma kernel
// holds beside the others; of decoding (--decode), the time of a launch over many sequences against the read bandwidth of the same run.
// Usage: cuda_attention_bench [--check] [--time] [--decode] [--runs N] [--kernel TEXT]
// Without --check, --time or --decode all of them. --kernel: only kernels whose name holds the text (the check's reference kernel apart).
// The check compares sampled rows with double precision, all rows with the float32 kernel, and requires equal bits of a sequence alone,
// in a batch and in pieces. Exits with 1 if anything differs.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "attention_problem.h"
#include "core/error.h"
#include "decode_timing.h"

namespace bolide::attention_bench {
namespace {

// Relative L2 error of a head's row: the weights' and the output's rounding to bfloat16 each give 0.41 * 2^-8 on average.
constexpr double kTolerance = 2.0 / 256.0;

struct Entry {
  std::string name;
  std::function<bool(const AttentionParameters&)> fits;
  Kernel run;
  bool positional;  // equal bits however the prompt is cut
};

std::vector<Entry> kernels(const Device& device, const std::string& filter) {
  std::vector<Entry> all{{"mma.sync", attention_mma_fits, attention_mma, true}};
  int count = 0;
  const AttentionVariant* variants = attention_wgmma_variants(count);
  for (int i = 0; i < count; ++i) {
    const AttentionVariant v = variants[i];
    // What the backend asks besides: device and build.
    const auto fits = [v, &device](const AttentionParameters& p) { return attention_wgmma_fits(device.context, p) && v.fits(p); };
    all.push_back({fmt::format("wgmma {}: {}", i, v.name), fits, v.run, true});
  }
  std::erase_if(all, [&](const Entry& e) { return e.name.find(filter) == std::string::npos; });
  return all;
}

double relative_error(const uint16_t* actual, const std::vector<double>& expected) {
  double error = 0.0, norm = 0.0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double a = static_cast<double>(bf16_to_f32(actual[i]));
    error += (a - expected[i]) * (a - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(error / norm);  // NaN where anything is
}

struct Case {
  const char* what;
  Heads heads;
  int32_t chunk;
  std::vector<Span> spans;
  int32_t window = 0;
};

class Checker {
 public:
  explicit Checker(Device& device) : device_(device) {}

  void check(const Case& c, const std::vector<Entry>& entries) {
    std::vector<int32_t> lengths;
    for (const Span& span : c.spans) lengths.push_back(span.first + span.rows);
    const Problem problem(c.heads, c.chunk, lengths);
    Step step(device_, problem, c.spans, c.window);
    const std::vector<uint16_t> exact = step.run(attention_prefill);
    for (const Entry& e : entries) {
      if (!e.fits(step.parameters())) continue;
      const std::vector<uint16_t> out = step.run(e.run);
      const double sampled = against_double(problem, step, out), all = against_kernel(problem, step, out, exact);
      std::string bits = step.run(e.run) == out ? "" : ", DIFFERS FROM RUN TO RUN";
      if (e.positional) bits += cut(problem, step, out, e);
      const bool good = sampled <= kTolerance && all <= kTolerance && bits.empty();
      failures_ += good ? 0 : 1;
      fmt::print("{:<9} {:<38} {:<44} error {:.2e} (double) {:.2e} (float32){}\n", good ? "ok" : "MISMATCH", c.what, e.name, sampled, all,
                 bits);
      std::fflush(stdout);
    }
  }
  int failures() const { return failures_; }

 private:
  // Largest error of sampled rows: the first and last ones of every sequence, and some between.
  static double against_double(const Problem& problem, const Step& step, const std::vector<uint16_t>& out) {
    double worst = 0.0;
    int32_t row = 0;
    const auto dh = static_cast<size_t>(problem.heads.head_dim);
    for (const Span& span : step.spans) {
      const int32_t stride = std::max(1, span.rows / 7);
      for (int32_t i = 0; span.rows > 1 && i < span.rows; i = i + stride < span.rows || i == span.rows - 1 ? i + stride : span.rows - 1) {
        const int32_t head = (span.sequence + i * 5) % problem.heads.heads;
        const size_t at = (static_cast<size_t>(row + i) * static_cast<size_t>(problem.heads.heads) + static_cast<size_t>(head)) * dh;
        const double error = relative_error(out.data() + at, problem.reference(span.sequence, span.first + i, head, step.window));
        if (!(error <= worst)) worst = error;
      }
      row += span.rows;
    }
    return worst;
  }
  // Largest error of any row; rows of single-row sequences must be left alone.
  double against_kernel(const Problem& problem, const Step& step, const std::vector<uint16_t>& out, const std::vector<uint16_t>& exact) {
    const auto dh = static_cast<size_t>(problem.heads.head_dim);
    const size_t width = dh * static_cast<size_t>(problem.heads.heads);
    double worst = 0.0;
    size_t row = 0;
    for (const Span& span : step.spans) {
      const size_t begin = row * width, end = (row + static_cast<size_t>(span.rows)) * width;
      for (size_t i = begin; i < end; i += dh) {
        if (span.rows == 1) {
          if (!std::equal(exact.begin() + static_cast<std::ptrdiff_t>(i), exact.begin() + static_cast<std::ptrdiff_t>(i + dh),
                          out.begin() + static_cast<std::ptrdiff_t>(i)))
            return INFINITY;
          continue;
        }
        std::vector<double> expected(dh);
        for (size_t d = 0; d < dh; ++d) expected[d] = static_cast<double>(bf16_to_f32(exact[i + d]));
        const double error = relative_error(out.data() + i, expected);
        if (!(error <= worst)) worst = error;
      }
      row += static_cast<size_t>(span.rows);
    }
    return worst;
  }
  // The step's sequences alone, and cut into two steps, must give the same bits.
  std::string cut(const Problem& problem, const Step& step, const std::vector<uint16_t>& out, const Entry& e) {
    const size_t width = static_cast<size_t>(problem.heads.heads) * static_cast<size_t>(problem.heads.head_dim);
    size_t row = 0;
    std::string found;
    for (const Span& span : step.spans) {
      const size_t first = row;
      row += static_cast<size_t>(span.rows);
      if (span.rows < 4) continue;
      const int32_t head_rows = span.rows * 3 / 7 + 2 > span.rows - 2 ? 2 : span.rows * 3 / 7 + 2;
      const std::vector<std::vector<Span>> ways{
          {span}, {{span.sequence, span.first, head_rows}}, {{span.sequence, span.first + head_rows, span.rows - head_rows}}};
      for (const std::vector<Span>& way : ways) {
        Step part(device_, problem, way, step.window);
        const std::vector<uint16_t> piece = part.run(e.run);
        const size_t at = (first + static_cast<size_t>(way[0].first - span.first)) * width;
        if (!std::equal(piece.begin(), piece.end(), out.begin() + static_cast<std::ptrdiff_t>(at)))
          found = fmt::format(", OTHER BITS for rows {}..{} of sequence {} by themselves", way[0].first, way[0].first + way[0].rows - 1,
                              span.sequence);
      }
    }
    return found;
  }

  Device& device_;
  int failures_ = 0;
};

std::vector<Case> cases() {
  const Heads qwen{16, 8, 128}, small{4, 2, 128}, smol{9, 3, 64}, narrow{14, 2, 64};
  const std::vector<Span> ragged{{0, 0, 33}, {1, 128, 1}, {2, 40, 7}, {3, 100, 64}, {4, 15, 2}, {5, 0, 300}, {6, 511, 130}};
  std::vector<Case> all{
      {"whole 512", qwen, 64, {{0, 0, 512}}},
      {"whole 2,000", qwen, 64, {{0, 0, 2000}}},
      {"two rows", small, 64, {{0, 0, 2}}},
      {"127, 128, 129 rows", small, 64, {{0, 0, 127}, {1, 0, 128}, {2, 0, 129}}},
      {"191, 192, 193 rows", small, 64, {{0, 0, 191}, {1, 0, 192}, {2, 0, 193}}},
      {"ragged", qwen, 64, ragged},
      {"prefix 5,000", small, 64, {{0, 5000, 300}}},
      {"prefix 4,095, tail 1", small, 64, {{0, 4095, 66}}},
      {"whole 512, Dh 64", smol, 64, {{0, 0, 512}}},
      {"ragged, Dh 64", narrow, 64, ragged},
      {"prefix 3,001, Dh 64", narrow, 64, {{0, 3001, 257}}},
      {"8 query heads per kv head", {8, 1, 128}, 64, {{0, 70, 200}}},
      {"as many kv heads", {3, 3, 128}, 64, {{0, 70, 200}}},
      {"40 sequences", small, 64, {}},
  };
  for (int32_t s = 0; s < 40; ++s) all.back().spans.push_back({s, s * 7, 1 + s * 5 % 90});
  for (int32_t chunk : {8, 16, 32, 128, 256}) all.push_back({"ragged, other chunks", small, chunk, ragged});
  for (int32_t window : {1, 5, 64, 100, 127, 128, 129, 1000}) {
    all.push_back({"windows", small, 64, {{0, 0, 400}, {1, 1003, 200}, {2, 77, 31}}, window});
    all.push_back({"windows, Dh 64", {4, 2, 64}, 32, {{0, 0, 400}, {1, 1003, 200}}, window});
  }
  return all;
}

void measure(Device& device, const std::vector<Entry>& entries, int runs) {
  struct Load {
    const char* what;
    Heads heads;
    std::vector<Span> spans;
    int32_t window = 0;
  };
  const Heads qwen{16, 8, 128};
  const std::vector<Load> loads{
      {"512", qwen, {{0, 0, 512}}},
      {"2,048", qwen, {{0, 0, 2048}}},
      {"8,192", qwen, {{0, 0, 8192}}},
      {"32,768", qwen, {{0, 0, 32768}}},
      {"4 x 2,048", qwen, {{0, 0, 2048}, {1, 0, 2048}, {2, 0, 2048}, {3, 0, 2048}}},
      {"2,048 after 14,336", qwen, {{0, 14336, 2048}}},
      {"8,192, window 1,024", qwen, {{0, 0, 8192}}, 1024},
      {"8,192, 14/2 x 64", {14, 2, 64}, {{0, 0, 8192}}},
  };
  fmt::print("\nC = 64, bfloat16; heads 16/8 x 128 unless named; TFLOP/s of 4 Dh per visible (row, key) pair and head; median of {} runs\n",
             runs);
  for (const Load& load : loads) {
    std::vector<int32_t> lengths;
    for (const Span& span : load.spans) lengths.push_back(span.first + span.rows);
    const Problem problem(load.heads, 64, lengths);
    Step step(device, problem, load.spans, load.window);
    for (const Entry& e : entries) {
      if (!e.fits(step.parameters())) continue;
      const double seconds = step.time(e.run, runs);
      fmt::print("{:<22} {:<44} {:>10.1f} us {:>8.1f} TFLOP/s\n", load.what, e.name, seconds * 1e6, step.operations() / seconds * 1e-12);
      std::fflush(stdout);
    }
  }
}

int run(int argc, char** argv) {
  bool check = false, time = false, decode = false;
  int runs = 15;
  std::string filter;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--check") {
      check = true;
    } else if (flag == "--time") {
      time = true;
    } else if (flag == "--decode") {
      decode = true;
    } else if (flag == "--runs" && i + 1 < argc && std::atoi(argv[i + 1]) > 0) {
      runs = std::atoi(argv[++i]);
    } else if (flag == "--kernel" && i + 1 < argc) {
      filter = argv[++i];
    } else {
      throw UsageError(fmt::format(
          "unknown or incomplete flag {}; usage: cuda_attention_bench [--check] [--time] [--decode] [--runs N] [--kernel TEXT]", flag));
    }
  }
  if (!check && !time && !decode) check = time = decode = true;
  Device device;
  const std::vector<Entry> entries = kernels(device, filter);
  Checker checker(device);
  if (check) {
    for (const Case& c : cases()) checker.check(c, entries);
    fmt::print("{} mismatches\n", checker.failures());
  }
  if (time) measure(device, entries, runs);
  if (decode) measure_decode(device, filter, runs);
  return checker.failures() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace bolide::attention_bench

int main(int argc, char** argv) {
  try {
    return bolide::attention_bench::run(argc, argv);
  } catch (const bolide::Error& failure) {
    fmt::print(stderr, "error: {}\n", failure.what());
    return static_cast<int>(failure.code());
  }
}
