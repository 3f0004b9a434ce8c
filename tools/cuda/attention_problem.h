// Attention problems for measuring and checking the CUDA kernels by themselves: a KV cache with known content, steps of some rows of
// some sequences, and a reference in double precision.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "cuda/attention.h"
#include "cuda/kv_cache.h"

namespace bolide::attention_bench {

struct Heads {
  int32_t heads, kv_heads, head_dim;
};

// A stream, scratch memory and the properties of device 0.
class Device {
 public:
  Device();
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  // Scratch for steps of this capacity.
  void reserve(const StepCapacity& capacity, const Heads& heads);
  // Waits; throws what the stream or a kernel reports.
  void sync();
  CudaContext context;

 private:
  std::unique_ptr<CudaBuffer> partials_, arrivals_;
};

// Device memory, NaN until set.
template <class T>
class Array {
 public:
  explicit Array(size_t n) : size_(n), memory_(std::max<size_t>(n, 1) * sizeof(T), 0, "a step") { poison(); }
  explicit Array(const std::vector<T>& values) : Array(values.size()) {
    check_cuda(cudaMemcpy(data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "upload", {"bench"});
  }
  void poison() { check_cuda(cudaMemset(data(), 0xff, size_ * sizeof(T)), "memset", {"bench"}); }
  std::vector<T> get() {
    std::vector<T> values(size_);
    check_cuda(cudaMemcpy(values.data(), data(), size_ * sizeof(T), cudaMemcpyDeviceToHost), "download", {"bench"});
    return values;
  }
  T* data() { return static_cast<T*>(memory_.data()); }

 private:
  size_t size_;
  CudaBuffer memory_;
};

// Sequences of `lengths` tokens in chunks in scattered order; everything else in the cache is NaN. Elements are bfloat16, uniform of
// variance 1, and depend on sequence, position, head and column alone.
class Problem {
 public:
  Problem(const Heads& heads, int32_t chunk_tokens, const std::vector<int32_t>& lengths);
  // The same sequences in `layers` layers of noise, for timing alone.
  Problem(const Heads& heads, int32_t chunk_tokens, const std::vector<int32_t>& lengths, int32_t layers, DType dtype);
  // A query's or key's or value's element.
  enum Kind : uint32_t { query, key, value };
  static uint16_t element(Kind kind, int32_t sequence, int32_t position, int32_t head, int32_t column);
  // Scores of variance 4: neither flat nor one-hot.
  float scale() const;
  // One head's output row, in double precision.
  std::vector<double> reference(int32_t sequence, int32_t position, int32_t head, int32_t window) const;

  const Heads heads;
  const int32_t chunk;
  const std::vector<int32_t> lengths;
  std::vector<std::vector<int32_t>> chunks;
  std::unique_ptr<CudaKvCache> cache;

 private:
  // Deals chunks to the sequences, in scattered order; returns how many there are.
  int32_t deal_chunks();
};

// Rows [first, first + rows) of a sequence, which then has first + rows tokens.
struct Span {
  int32_t sequence, first, rows;
};

using Kernel = std::function<void(CudaContext&, const AttentionParameters&, const CudaSite&)>;

// A step's inputs and output on the device.
class Step {
 public:
  Step(Device& device, const Problem& problem, const std::vector<Span>& spans, int32_t window);
  AttentionParameters parameters();
  const StepCapacity& capacity() const { return capacity_; }
  // bfloat16 [T, H, Dh]; rows that the kernel leaves alone are NaN.
  std::vector<uint16_t> run(const Kernel& kernel);
  // Seconds per launch, median of `runs` groups of launches.
  double time(const Kernel& kernel, int runs);
  // The same with a launch for each layer of the cache in turn, so that L2 holds nothing of what a launch reads.
  double time_layers(const Kernel& kernel, int runs);
  // K and V that the rows see, read once.
  double kv_bytes() const;
  // Visible (row, key) pairs of rows that many-row kernels take, times 4 Dh H.
  double operations() const;

  const std::vector<Span> spans;
  const int32_t window;
  int32_t tokens = 0;

 private:
  double median_seconds(int runs, int launches, const std::function<void(int)>& launch);

  Device& device_;
  const Problem& problem_;
  std::vector<std::unique_ptr<Array<int32_t>>> inputs_;
  std::unique_ptr<Array<StepCounts>> counts_;
  std::unique_ptr<Array<uint16_t>> q_, out_;
  StepInputs in_;
  StepCapacity capacity_;
};

}  // namespace bolide::attention_bench
