// A device that works on its own, for tests on the CPU: a step is computed when its results are waited for, not when it is handed over.
#pragma once

#include <deque>
#include <memory>
#include <utility>

#include "engine/engine_load.h"
#include "engine_fixture.h"

namespace bolide::test {

class DeferredBackend final : public Backend {
 public:
  enum class Steps { computed, counted };  // counted: nothing is computed, every row draws token 7

  DeferredBackend(std::unique_ptr<Backend> inner, Steps steps) : inner_(std::move(inner)), steps_(steps) {}

  DeviceInfo info() const override { return inner_->info(); }
  DType activation_dtype() const override { return inner_->activation_dtype(); }
  DType default_kv_dtype(DType weights) const override { return inner_->default_kv_dtype(weights); }
  void require_support(const ModelDims& dims, DType weights, DType kv) const override { inner_->require_support(dims, weights, kv); }
  std::unique_ptr<Buffer> alloc(size_t bytes) override { return inner_->alloc(bytes); }
  void upload(void* to, const void* from_host, size_t bytes) override { inner_->upload(to, from_host, bytes); }
  void download(void* to_host, const void* from, size_t bytes) override {
    sync();
    inner_->download(to_host, from, bytes);
  }
  void sync() override {
    while (!queue_.empty()) run_next();
  }
  std::unique_ptr<Matrix> prepare(std::span<const TensorView> rows) override { return inner_->prepare(rows); }
  std::unique_ptr<Buffer> prepare_vector(std::span<const TensorView> parts, float offset) override {
    return inner_->prepare_vector(parts, offset);
  }
  std::unique_ptr<KvCache> alloc_kv(const KvCacheSpec& spec) override { return inner_->alloc_kv(spec); }
  void reserve(const StepCapacity& capacity, const ModelDims& dims) override { inner_->reserve(capacity, dims); }
  size_t scratch_bytes(const StepCapacity& capacity, const ModelDims& dims) const override { return inner_->scratch_bytes(capacity, dims); }
  void copy_chunks(KvCache& kv, std::span<const ChunkCopy> copies) override { inner_->copy_chunks(kv, copies); }
  void embed(const EmbedArgs& args) override { inner_->embed(args); }
  void norm_qkv(const NormQkvArgs& args) override { inner_->norm_qkv(args); }
  void attention(const AttentionArgs& args) override { inner_->attention(args); }
  void project_add(const ProjectAddArgs& args) override { inner_->project_add(args); }
  void norm_gate_up(const NormGateUpArgs& args) override { inner_->norm_gate_up(args); }
  void logits(const LogitsArgs& args) override { inner_->logits(args); }
  void sample(const SampleArgs& args) override { inner_->sample(args); }
  double measure_read_bandwidth() override { return inner_->measure_read_bandwidth(); }

  bool asynchronous() const override { return true; }
  void run_step(const Step& step) override {
    queue_.push_back(&step);
    most_queued = std::max(most_queued, queue_.size());
  }
  std::unique_ptr<Download> make_download(size_t bytes) override { return std::make_unique<Late>(*this, inner_->make_download(bytes)); }

  size_t most_queued = 0;

 private:
  class Late final : public Download {
   public:
    Late(DeferredBackend& backend, std::unique_ptr<Download> inner) : backend_(backend), inner_(std::move(inner)) {}
    void start(const void* from, size_t bytes) override {
      from_ = from;
      bytes_ = bytes;
      step_ = backend_.ran_ + backend_.queue_.size();
    }
    const void* wait() override {
      while (backend_.ran_ < step_) backend_.run_next();
      inner_->start(from_, bytes_);
      return inner_->wait();
    }

   private:
    DeferredBackend& backend_;
    std::unique_ptr<Download> inner_;
    const void* from_ = nullptr;
    size_t bytes_ = 0, step_ = 0;
  };

  void run_next() {
    const Step& step = *queue_.front();
    queue_.pop_front();
    ++ran_;
    if (steps_ == Steps::computed) return inner_->run_step(step);
    const auto& sampling = std::get<SampleArgs>(step.ops.back());
    for (int32_t row = 0; row < sampling.in->counts->logit_rows; ++row) sampling.out[row].id = 7;
  }

  std::unique_ptr<Backend> inner_;
  Steps steps_;
  std::deque<const Step*> queue_;
  size_t ran_ = 0;
};

// An engine on the text checkpoint over such a device.
inline std::unique_ptr<Engine> deferred_engine(const EngineOptions& options, DeferredBackend*& backend,
                                               DeferredBackend::Steps steps = DeferredBackend::Steps::computed) {
  auto made = std::make_unique<DeferredBackend>(choose_backend(options.device).backend, steps);
  backend = made.get();
  return make_engine(load_engine(reference_source("tiny-qwen3-text-bf16"), options, {std::move(made), "a test"}));
}

}  // namespace bolide::test
