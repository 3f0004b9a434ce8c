// Each call reads another copy of the weights, and the copies together exceed the L2 cache four times, so that a call finds nothing of its
// weights in the cache, as in a model. A graph of many calls is launched at once; a call's time is the graph's over their number.
#include "cuda/norm_qkv_comparison.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "core/error.h"
#include "core/philox.h"
#include "cuda/capture.h"
#include "cuda/product.h"

namespace bolide {
namespace {

constexpr CudaSite kSite{"norm_qkv comparison"};
constexpr float kEps = 1e-6f;
constexpr int32_t kCachesFilled = 4;
constexpr int32_t kLeastCalls = 64;  // of a graph
constexpr int32_t kRepetitions = 20;
constexpr int32_t kErrorRows = 16;

// Uniform with the root mean square `rms`, by (seed, index).
std::vector<float> random_floats(size_t count, uint64_t seed, float rms) {
  std::vector<float> values(count);
  const float bound = rms * std::sqrt(3.0f);
  for (size_t i = 0; i < count; i += 4) {
    const Philox4 bits = philox4x32(seed, i, 0);
    for (size_t j = 0; j < 4 && i + j < count; ++j) values[i + j] = bound * (2.0f * uniform_open(bits.v[j]) - 1.0f);
  }
  return values;
}

// Elements as stored in dtype; `values` become what the stored elements widen to.
std::vector<std::byte> stored(std::vector<float>& values, DType dtype) {
  std::vector<std::byte> bytes(values.size() * dtype_size(dtype));
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::f32) {
      std::memcpy(bytes.data() + 4 * i, &values[i], 4);
    } else {
      const uint16_t bits = f32_to_bf16(values[i]);
      std::memcpy(bytes.data() + 2 * i, &bits, 2);
      values[i] = bf16_to_f32(bits);
    }
  }
  return bytes;
}

class Comparison {
 public:
  Comparison(CudaContext& context, Backend& backend, const NormQkvShape& shape) : context_(context), backend_(backend), s_(shape) {
    if (s_.hidden < 1 || s_.rows < 1 || s_.kv_heads < 1 || s_.heads % s_.kv_heads != 0 ||
        (s_.dtype != DType::f32 && s_.dtype != DType::bf16))
      throw UsageError("norm_qkv comparison: sizes of at least 1, and float32 or bfloat16");
    int cache = 0;
    check_cuda(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, context.device), "L2 cache size", kSite);
    result_.cache_bytes = cache;
    result_.weight_bytes = s_.outputs() * s_.hidden * static_cast<int64_t>(dtype_size(s_.dtype));
    result_.copies = static_cast<int32_t>(kCachesFilled * result_.cache_bytes / result_.weight_bytes) + 2;
    prepare();
  }

  NormQkvComparison run() {
    const std::vector<double> expected = reference();
    call_op(0);
    result_.op_error = largest_difference(op_outputs(), expected);
    call_plain(0);
    result_.plain_error = largest_difference(product_outputs(), expected);
    result_.op_seconds = seconds_per_call([&](int32_t copy) { call_op(copy); });
    result_.plain_seconds = seconds_per_call([&](int32_t copy) { call_plain(copy); });
    if (norm_gemv_fits(context_, view(0), rows())) result_.product_seconds = seconds_per_call([&](int32_t copy) { call_product(copy); });
    result_.error_rows = static_cast<int32_t>(error_rows().size());
    return result_;
  }

 private:
  MatrixView view(int32_t copy) const { return matrix_view(*weights_[static_cast<size_t>(copy)]); }
  Rows rows() const { return {s_.rows, &inputs_.counts->tokens}; }
  int64_t stride() const { return padded_columns(s_.outputs()); }
  float* memory(const std::vector<float>& values) {
    buffers_.push_back(backend_.alloc(values.size() * sizeof(float)));
    backend_.upload(buffers_.back()->data(), values.data(), values.size() * sizeof(float));
    return static_cast<float*>(buffers_.back()->data());
  }

  void prepare() {
    const auto k = static_cast<size_t>(s_.hidden), n = static_cast<size_t>(s_.outputs()), t = static_cast<size_t>(s_.rows);
    x_ = random_floats(t * k, 1, 1.0f);
    norm_ = random_floats(k, 2, 0.2f);
    for (float& value : norm_) value += 1.0f;
    w_ = random_floats(n * k, 3, 1.0f / std::sqrt(static_cast<float>(k)));
    bytes_ = stored(w_, s_.dtype);
    const TensorView tensor{bytes_.data(), s_.dtype, {s_.outputs(), s_.hidden}};
    for (int32_t copy = 0; copy < result_.copies; ++copy) weights_.push_back(backend_.prepare({&tensor, 1}));

    ModelDims dims{s_.hidden, s_.hidden, 1, s_.heads, s_.kv_heads, s_.head_dim, 1};
    backend_.reserve({s_.rows, 1, 1, 1, 0, 0}, dims);
    kv_ = backend_.alloc_kv({1, s_.kv_heads, s_.head_dim, s_.rows, 1, s_.dtype});
    counts_ = backend_.alloc(sizeof(StepCounts));
    const StepCounts counts{s_.rows, 1, 0};
    backend_.upload(counts_->data(), &counts, sizeof(counts));
    std::vector<int32_t> slots(t);
    for (size_t i = 0; i < t; ++i) slots[i] = static_cast<int32_t>(i);
    slots_ = backend_.alloc(t * sizeof(int32_t));
    backend_.upload(slots_->data(), slots.data(), t * sizeof(int32_t));
    inputs_.counts = static_cast<StepCounts*>(counts_->data());
    inputs_.slots = static_cast<int32_t*>(slots_->data());

    // A rotation by nothing, so that q, k and v are the product's columns.
    std::vector<float> rope(t * static_cast<size_t>(s_.head_dim));
    for (size_t i = 0; i < rope.size(); i += 2) rope[i] = 1.0f;
    args_.in = &inputs_;
    args_.x = memory(x_);
    args_.norm = memory(norm_);
    args_.norm_eps = kEps;
    args_.rope = memory(rope);
    args_.q = {memory(std::vector<float>(t * static_cast<size_t>(s_.heads * s_.head_dim))), context_.activations};
    args_.kv = kv_.get();
    args_.hidden = s_.hidden;
    args_.heads = s_.heads;
    args_.kv_heads = s_.kv_heads;
    args_.head_dim = s_.head_dim;
  }

  void call_op(int32_t copy) {
    args_.qkv = weights_[static_cast<size_t>(copy)].get();
    cuda_norm_qkv(context_, args_);
  }
  void call_product(int32_t copy) {
    norm_gemv(context_, {args_.x, args_.norm, kEps, nullptr}, view(copy), context_.scratch.product, stride(), rows(), kSite);
  }
  void call_plain(int32_t copy) {
    const MatrixView weight = view(copy);
    const Operand normed = norm_operand(context_, args_.x, args_.norm, kEps, s_.hidden, weight, rows(), nullptr, kSite);
    gemm(context_, normed, weight, context_.scratch.product, stride(), false, rows(), kSite);
  }

  double seconds_per_call(const std::function<void(int32_t copy)>& call) {
    call(0);  // loads kernels, finds the library's algorithm
    backend_.sync();
    const int32_t calls = std::max(result_.copies, kLeastCalls / result_.copies * result_.copies);
    CapturedWork work(
        context_.stream,
        [&] {
          for (int32_t i = 0; i < calls; ++i) call(i % result_.copies);
        },
        kSite);
    return work.median_seconds(kRepetitions) / calls;
  }

  // Rows whose errors are looked at, spread over all.
  std::vector<int32_t> error_rows() const {
    std::vector<int32_t> chosen;
    const int32_t count = std::min(s_.rows, kErrorRows);
    for (int32_t i = 0; i < count; ++i) chosen.push_back(static_cast<int32_t>(int64_t{i} * s_.rows / count));
    return chosen;
  }

  // [error rows, outputs] in double precision.
  std::vector<double> reference() const {
    const auto k = static_cast<size_t>(s_.hidden);
    std::vector<double> out;
    std::vector<double> normed(k);
    for (const int32_t row : error_rows()) {
      const float* x = x_.data() + static_cast<size_t>(row) * k;
      double squares = 0;
      for (size_t i = 0; i < k; ++i) squares += double{x[i]} * x[i];
      const double scale = 1.0 / std::sqrt(squares / static_cast<double>(k) + double{kEps});
      for (size_t i = 0; i < k; ++i) normed[i] = x[i] * scale * norm_[i];
      for (int64_t n = 0; n < s_.outputs(); ++n) {
        const float* w = w_.data() + static_cast<size_t>(n) * k;
        double sum = 0;
        for (size_t i = 0; i < k; ++i) sum += normed[i] * w[i];
        out.push_back(sum);
      }
    }
    return out;
  }

  template <typename T>
  std::vector<T> download(const void* from, size_t count) {
    std::vector<T> values(count);
    backend_.sync();
    backend_.download(values.data(), from, count * sizeof(T));
    return values;
  }
  // `count` elements of `dtype`, widened.
  std::vector<float> download_as(const void* from, DType dtype, size_t count) {
    const auto bytes = download<std::byte>(from, count * dtype_size(dtype));
    std::vector<float> values(count);
    for (size_t i = 0; i < count; ++i) values[i] = load_element(bytes.data(), dtype, i);
    return values;
  }

  std::vector<double> product_outputs() {
    const std::vector<float> all = download<float>(context_.scratch.product, static_cast<size_t>(s_.rows * stride()));
    std::vector<double> out;
    for (const int32_t row : error_rows()) {
      const auto begin = all.begin() + row * stride();
      out.insert(out.end(), begin, begin + s_.outputs());
    }
    return out;
  }

  // q from its buffer, k and v from the cache (one chunk: [kv head][K, V][row][Dh]).
  std::vector<double> op_outputs() {
    const auto q_width = static_cast<size_t>(s_.heads * s_.head_dim), dh = static_cast<size_t>(s_.head_dim),
               t = static_cast<size_t>(s_.rows);
    const std::vector<float> q = download_as(args_.q.data, args_.q.dtype, t * q_width);
    const std::vector<float> kv = download_as(kv_view(*kv_).data, s_.dtype, 2 * static_cast<size_t>(s_.kv_heads) * t * dh);
    std::vector<double> out;
    for (const int32_t row : error_rows()) {
      const auto from_q = q.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(row) * q_width);
      out.insert(out.end(), from_q, from_q + static_cast<std::ptrdiff_t>(q_width));
      for (const size_t value : {size_t{0}, size_t{1}}) {
        for (size_t head = 0; head < static_cast<size_t>(s_.kv_heads); ++head) {
          const auto from = kv.begin() + static_cast<std::ptrdiff_t>(((2 * head + value) * t + static_cast<size_t>(row)) * dh);
          out.insert(out.end(), from, from + static_cast<std::ptrdiff_t>(dh));
        }
      }
    }
    return out;
  }

  // NaN where one of `values` is: a comparison must not pass for that.
  static double largest_difference(const std::vector<double>& values, const std::vector<double>& expected) {
    BOLIDE_CHECK(values.size() == expected.size());
    double largest = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      const double difference = std::abs(values[i] - expected[i]);
      if (std::isnan(difference)) return difference;
      largest = std::max(largest, difference);
    }
    return largest;
  }

  CudaContext& context_;
  Backend& backend_;
  const NormQkvShape s_;
  NormQkvComparison result_;
  std::vector<float> x_, norm_, w_;  // w_: as the stored elements widen
  std::vector<std::byte> bytes_;
  std::vector<std::unique_ptr<Matrix>> weights_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::unique_ptr<Buffer> counts_, slots_;
  std::unique_ptr<KvCache> kv_;
  StepInputs inputs_;
  NormQkvArgs args_{};
};

}  // namespace

NormQkvComparison compare_cuda_norm_qkv(CudaContext& context, Backend& backend, const NormQkvShape& shape) {
  return Comparison(context, backend, shape).run();
}

}  // namespace bolide
