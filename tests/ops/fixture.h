// What the op tests share: backends, values made from seeds, arrays in backend memory, steps, and a KV cache with known content.
// Only the Backend interface is used, so that one suite judges every backend.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace bolide::ops_test {

// Runs `body` on every backend there is: the CPU, and each CUDA device. What is skipped for want of a CUDA device is counted and named
// when the program ends.
void for_each_backend(const std::string& name, const std::function<void(Backend&)>& body);
// The same, and on the CPU once per class of SIMD targets: the best this machine has, none better than AVX2, none better than the
// platform's baseline.
void for_each_backend_and_target(const std::string& name, const std::function<void(Backend&)>& body);
bool is_cpu(const Backend& backend);
std::unique_ptr<Backend> cpu_with_threads(int threads);

// Values from a counter-based generator: same seed, same values, everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : seed_(seed) {}
  float uniform(float low, float high);
  float normal();
  int32_t below(int32_t n);
  std::vector<float> normals(size_t count, float scale = 1.0f);
  std::vector<int32_t> permutation(int32_t n);

 private:
  uint64_t seed_, counter_ = 0;
};

// Rounded to dtype and widened again.
float round_to(float value, DType dtype);
std::vector<float> round_to(std::vector<float> values, DType dtype);
// Packed elements of dtype.
std::vector<std::byte> pack(const std::vector<float>& values, DType dtype);

// n elements of T in backend memory, NaN (all bits set) until set.
template <typename T>
class DeviceArray {
 public:
  DeviceArray(Backend& backend, size_t n) : backend_(backend), size_(n), buffer_(backend.alloc(std::max<size_t>(n, 1) * sizeof(T))) {
    const std::vector<unsigned char> poison(n * sizeof(T), 0xff);
    if (n > 0) backend_.upload(buffer_->data(), poison.data(), poison.size());
  }
  DeviceArray(Backend& backend, const std::vector<T>& values) : DeviceArray(backend, values.size()) { set(values); }
  void set(const std::vector<T>& values) {
    if (!values.empty()) backend_.upload(buffer_->data(), values.data(), values.size() * sizeof(T));
  }
  std::vector<T> get() const {
    std::vector<T> values(size_);
    backend_.sync();
    if (size_ > 0) backend_.download(values.data(), buffer_->data(), size_ * sizeof(T));
    return values;
  }
  T* data() const { return static_cast<T*>(buffer_->data()); }

 private:
  Backend& backend_;
  size_t size_;
  std::unique_ptr<Buffer> buffer_;
};

// n activations of the backend's dtype.
class Activations {
 public:
  Activations(Backend& backend, size_t n);
  Activations(Backend& backend, const std::vector<float>& values);
  std::vector<float> get() const;
  ActivationBuffer buffer() const { return {bytes_.data(), dtype_}; }

 private:
  DType dtype_;
  size_t size_;
  DeviceArray<unsigned char> bytes_;
};

// A weight matrix on the host and prepared, cut into `parts` stacked tensors.
struct TestMatrix {
  TestMatrix(Backend& backend, Random& random, int64_t rows, int64_t columns, DType dtype, int parts = 1, float scale = 1.0f);
  std::vector<float> values;  // [rows, columns], as the stored elements widen
  int64_t rows, columns;
  std::vector<std::byte> bytes;
  std::unique_ptr<Matrix> matrix;
};

struct TestSequence {
  int32_t first_position = 0, rows = 1;
  std::vector<int32_t> chunks;
  int32_t length() const { return first_position + rows; }
};

// Gives out chunk ids in scattered order.
class ChunkSource {
 public:
  ChunkSource(Random& random, int32_t chunks, int32_t chunk_tokens) : free_(random.permutation(chunks)), chunk_tokens_(chunk_tokens) {}
  TestSequence sequence(int32_t first_position, int32_t rows);

 private:
  std::vector<int32_t> free_;
  int32_t chunk_tokens_;
};

// One row's sampling inputs.
struct TestSampling {
  SamplingSpec spec;
  std::vector<SeenToken> seen;
  std::vector<LogitBias> biases;
};

// Host arrays of a step and their copies in backend memory.
struct TestStep {
  TestStep(Backend& backend, const std::vector<TestSequence>& sequences, int32_t chunk_tokens, const std::vector<int32_t>& token_ids = {},
           const std::vector<int32_t>& logit_rows = {}, const std::vector<TestSampling>& sampling = {});
  const StepInputs* in() const { return &inputs; }
  int32_t tokens = 0;
  std::vector<int32_t> positions, row_sequences, slots;
  StepCapacity capacity;
  StepInputs inputs;

 private:
  std::vector<std::unique_ptr<Buffer>> memory_;
};

// Writes given K and V to slots of a cache, through norm_qkv alone: token t of a call is the unit vector e_t, which RMSNorm (over 64
// elements, eps 0, weights 1/8) leaves as it is, so that column t of the weight matrix is what reaches the cache.
class KvWriter {
 public:
  KvWriter(Backend& backend, KvCache& kv) : backend_(backend), kv_(kv) {}
  // k, v: [slots, Hkv, Dh].
  void write(int32_t layer, const std::vector<int32_t>& slots, const std::vector<float>& k, const std::vector<float>& v);
  // Everything in the cache becomes NaN.
  void poison();

 private:
  // slots: at most 64; weights: [3 Hkv Dh, hidden]; inputs: [slots, hidden], each of length 1, or all ones.
  void write_products(int32_t layer, const std::vector<int32_t>& slots, const std::vector<std::byte>& weights,
                      const std::vector<float>& inputs);
  DType weights_dtype() const { return kv_.spec().dtype == DType::f8 ? DType::f32 : kv_.spec().dtype; }  // fp8 is no dtype of weights
  size_t width() const { return static_cast<size_t>(kv_.spec().kv_heads) * static_cast<size_t>(kv_.spec().head_dim); }

  Backend& backend_;
  KvCache& kv_;
};

// K and V of sequences, random and rounded to the cache's dtype, in a cache that is NaN elsewhere.
struct KvContent {
  std::vector<std::vector<float>> k, v;  // per sequence [length, Hkv, Dh]
};
KvContent random_kv(Random& random, const std::vector<TestSequence>& sequences, int32_t kv_heads, int32_t head_dim, DType dtype,
                    float scale = 1.0f);
void write_kv(Backend& backend, KvCache& kv, int32_t layer, const std::vector<TestSequence>& sequences, const KvContent& content);

}  // namespace bolide::ops_test
