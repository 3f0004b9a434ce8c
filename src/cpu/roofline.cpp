#include "cpu/roofline.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "cpu/mapped_memory.h"
#include "cpu/simd_targets.h"

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/roofline.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace bolide {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int kReadStreams = 4;
constexpr int kChains = 24;  // independent multiply-adds, for latency; what spills on targets with 16 registers is found by kFewChains
constexpr int kFewChains = 12;

// Sums `count` floats as `streams` (1, 2 or 4) streams side by side: two vectors of each at a time.
float read_all_simd(const float* p, int64_t count, int streams) {
  using D = hn::ScalableTag<float>;
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), each = count / streams;
  hn::Vec<D> sums[2 * kReadStreams];
#pragma GCC unroll 8
  for (int s = 0; s < 2 * kReadStreams; ++s) sums[s] = hn::Zero(d);
  const int64_t end = each / (2 * lanes) * (2 * lanes);
  if (streams == 1) {
    for (int64_t i = 0; i < end; i += 2 * lanes) {
      sums[0] = hn::Add(sums[0], hn::LoadU(d, p + i));
      sums[1] = hn::Add(sums[1], hn::LoadU(d, p + i + lanes));
    }
  } else if (streams == 2) {
    for (int64_t i = 0; i < end; i += 2 * lanes) {
#pragma GCC unroll 2
      for (int s = 0; s < 2; ++s) {
        sums[2 * s] = hn::Add(sums[2 * s], hn::LoadU(d, p + s * each + i));
        sums[2 * s + 1] = hn::Add(sums[2 * s + 1], hn::LoadU(d, p + s * each + i + lanes));
      }
    }
  } else {
    for (int64_t i = 0; i < end; i += 2 * lanes) {
#pragma GCC unroll 4
      for (int s = 0; s < kReadStreams; ++s) {
        sums[2 * s] = hn::Add(sums[2 * s], hn::LoadU(d, p + s * each + i));
        sums[2 * s + 1] = hn::Add(sums[2 * s + 1], hn::LoadU(d, p + s * each + i + lanes));
      }
    }
  }
  auto total = sums[0];
#pragma GCC unroll 8
  for (int s = 1; s < 2 * kReadStreams; ++s) total = hn::Add(total, sums[s]);
  return hn::GetLane(hn::SumOfLanes(d, total));
}

template <int kCount>
HWY_INLINE float multiply_add_chains(int64_t steps, float factor) {
  using D = hn::ScalableTag<float>;
  const D d;
  hn::Vec<D> chains[kCount];
#pragma GCC unroll 24
  for (int c = 0; c < kCount; ++c) chains[c] = hn::Set(d, static_cast<float>(c));
  const auto f = hn::Set(d, factor), one = hn::Set(d, 1.0f);
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 24
    for (int c = 0; c < kCount; ++c) chains[c] = hn::MulAdd(chains[c], f, one);
  }
  auto total = chains[0];
#pragma GCC unroll 24
  for (int c = 1; c < kCount; ++c) total = hn::Add(total, chains[c]);
  return hn::GetLane(hn::SumOfLanes(d, total));
}

// Operations done in `steps` steps; the result goes to *sink, so that the work cannot be left out.
double multiply_add_simd(int64_t steps, float factor, bool many, float* sink) {
  *sink = many ? multiply_add_chains<kChains>(steps, factor) : multiply_add_chains<kFewChains>(steps, factor);
  return 2.0 * static_cast<double>(steps) * (many ? kChains : kFewChains) * static_cast<double>(hn::Lanes(hn::ScalableTag<float>()));
}

}  // namespace HWY_NAMESPACE
}  // namespace bolide
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bolide {
namespace {

HWY_EXPORT(read_all_simd);
HWY_EXPORT(multiply_add_simd);

using Clock = std::chrono::steady_clock;

struct Rate {
  double best = 0.0, median = 0.0;
};

// Of passes that return units per second.
template <class Pass>
Rate rate_of(int passes, const Pass& pass) {
  std::vector<double> rates;
  for (int i = 0; i < passes; ++i) rates.push_back(pass());
  std::sort(rates.begin(), rates.end());
  return {rates.back(), rates[rates.size() / 2]};
}

// Units per second of `body`, which returns how many it has done.
template <class Body>
double timed(const Body& body) {
  const auto begin = Clock::now();
  const double work = body();
  return work / std::max(1e-9, std::chrono::duration<double>(Clock::now() - begin).count());
}

constexpr int kPasses = 7;
constexpr int kPatterns[] = {1, 2, 4};  // streams

Rate measure_read(ThreadPool& pool, size_t bytes) {
  ReadBuffer buffer(pool, bytes);
  Rate fastest;
  for (const int streams : kPatterns) {
    const Rate read = rate_of(kPasses, [&] { return buffer.pass(0, buffer.share(), streams); });
    if (read.best > fastest.best) fastest = read;
  }
  return fastest;
}

Rate measure_multiply_add(ThreadPool& pool) {
  constexpr int64_t kSteps = 500'000;
  const auto threads = static_cast<size_t>(pool.size());
  std::vector<float> sinks(threads * 16);
  Rate fastest;
  for (const bool many : {false, true}) {
    const auto body = [&] {
      std::vector<double> work(threads * 8);
      pool.run([&](int worker) {
        work[static_cast<size_t>(worker) * 8] =
            HWY_DYNAMIC_DISPATCH(multiply_add_simd)(kSteps, 0.5f, many, &sinks[static_cast<size_t>(worker) * 16]);
      });
      double total = 0.0;
      for (size_t w = 0; w < threads; ++w) total += work[w * 8];
      return total;
    };
    const Rate fma = rate_of(kPasses, [&] { return timed(body); });
    if (fma.best > fastest.best) fastest = fma;
  }
  return fastest;
}

constexpr size_t kPage = 4096, kFloatsOfLine = 16;

}  // namespace

ReadBuffer::ReadBuffer(ThreadPool& pool, size_t bytes)
    : pool_(pool),
      share_(std::max<size_t>(bytes / static_cast<size_t>(pool.size()) / kPage, 1) * kPage),
      memory_(share_ * static_cast<size_t>(pool.size())),
      sinks_(static_cast<size_t>(pool.size()) * kFloatsOfLine) {
  pool_.run([&](int worker) {
    std::fill_n(reinterpret_cast<float*>(memory_.data() + static_cast<size_t>(worker) * share_), share_ / sizeof(float), 1.0f);
  });
}

double ReadBuffer::pass(size_t offset, size_t bytes, int streams) {
  return timed([&] {
    pool_.run([&](int worker) {
      const auto w = static_cast<size_t>(worker);
      const auto* part = reinterpret_cast<const float*>(memory_.data() + w * share_ + offset);
      sinks_[w * kFloatsOfLine] = HWY_DYNAMIC_DISPATCH(read_all_simd)(part, static_cast<int64_t>(bytes / sizeof(float)), streams);
    });
    return static_cast<double>(bytes) * pool_.size();
  });
}

CpuReadProbe::CpuReadProbe(ThreadPool& pool, size_t bytes) : buffer_(pool, bytes), piece_(buffer_.share()) {
  constexpr double kPassSeconds = 0.004;  // far beyond what it takes to start and gather the threads
  // In turn: between two rounds the memory may have become slower or faster.
  double fastest = 0;
  piece_ = std::max(buffer_.share() / 4 / kPage, size_t{1}) * kPage;
  for (int round = 0; round < kPasses; ++round) {
    for (const int streams : kPatterns) {
      const double rate = next_pass(streams);
      if (rate <= fastest) continue;
      fastest = rate;
      streams_ = streams;
    }
  }
  const auto pages = static_cast<size_t>(fastest * kPassSeconds / pool.size() / kPage);
  piece_ = std::clamp(pages * kPage, kPage, buffer_.share());
}

double CpuReadProbe::next_pass(int streams) {
  if (at_ + piece_ > buffer_.share()) at_ = 0;
  const double rate = buffer_.pass(at_, piece_, streams);
  at_ += piece_;
  return rate;
}

double CpuReadProbe::measure() {
  constexpr int kProbePasses = 9;  // more are no steadier, where it is the machine that changes
  next_pass(streams_);             // wakes the threads
  return rate_of(kProbePasses, [&] { return next_pass(streams_); }).median;
}

double measure_cpu_read_bandwidth(ThreadPool& pool, size_t bytes) { return measure_read(pool, bytes).best; }

CpuRoofline measure_cpu_roofline(ThreadPool& pool, size_t bytes) {
  const Rate read = measure_read(pool, bytes), fma = measure_multiply_add(pool);
  return {read.best, read.median, fma.best, fma.median};
}

}  // namespace bolide
#endif
