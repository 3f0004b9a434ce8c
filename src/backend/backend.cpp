#include "backend/backend.h"

#include <algorithm>
#include <chrono>

#include "core/error.h"

namespace bolide {
namespace {

struct Dispatch {
  Backend& backend;
  void operator()(const EmbedArgs& a) const { backend.embed(a); }
  void operator()(const NormQkvArgs& a) const { backend.norm_qkv(a); }
  void operator()(const AttentionArgs& a) const { backend.attention(a); }
  void operator()(const ProjectAddArgs& a) const { backend.project_add(a); }
  void operator()(const NormGateUpArgs& a) const { backend.norm_gate_up(a); }
  void operator()(const LogitsArgs& a) const { backend.logits(a); }
  void operator()(const SampleArgs& a) const { backend.sample(a); }
};

}  // namespace

void Backend::run_step(const Step& step) {
  if (!step.copies.empty()) copy_chunks(*step.kv, step.copies);
  for (size_t i = 0; i < step.ops.size(); ++i) run_op_at(step, i);
}

std::vector<OpTime> Backend::time_ops(const Step& step, int32_t repetitions) {
  using Clock = std::chrono::steady_clock;
  BOLIDE_CHECK(repetitions > 0);
  std::vector<std::vector<double>> samples(step.ops.size());
  sync();
  for (int32_t repetition = 0; repetition < repetitions; ++repetition) {
    for (size_t i = 0; i < step.ops.size(); ++i) {
      const auto begin = Clock::now();
      run_op_at(step, i);
      sync();
      samples[i].push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    }
  }
  std::vector<OpTime> times;
  for (std::vector<double>& sample : samples) {
    const auto middle = sample.begin() + static_cast<std::ptrdiff_t>(sample.size() / 2);
    std::nth_element(sample.begin(), middle, sample.end());
    times.push_back({*middle, 0});
  }
  return times;
}

NormQkvComparison Backend::compare_norm_qkv(const NormQkvShape&) {
  throw UsageError(
      fmt::format("{} has no library product to compare norm_qkv with: bench ops needs a CUDA device (--device cuda)", info().id));
}

void Backend::run_op(const Op& op) { std::visit(Dispatch{*this}, op); }

}  // namespace bolide
