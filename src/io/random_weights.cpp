// Weights for runs without a checkpoint. Element i of a tensor is bits 16 (i mod 4) .. of mix(key + (i / 4) * golden), where key hashes
// the seed and the tensor's name and mix is the finaliser of SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number
// Generators", OOPSLA 2014). So a value depends on nothing but seed, name, index and the tensor's scale, and four values cost one hash.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <thread>

#include "core/error.h"
#include "core/host_memory.h"
#include "core/messages.h"
#include "io/weight_store.h"

namespace bolide {
namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15ull;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr int64_t kBlock = 1 << 16;         // elements that a thread takes at a time
constexpr int64_t kParallelFrom = 1 << 20;  // below this many elements, starting threads costs more than it saves
constexpr float kBiasBound = 0.05f;

uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

uint64_t tensor_key(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325ull;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return mix(hash + mix(seed + kGolden));
}

inline void store(float* out, float value) { *out = value; }
struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};
inline void store(Half* out, float value) { out->bits = f32_to_f16(value); }
inline void store(BFloat* out, float value) {
  // f32_to_bf16 without its test for NaN, which keeps the loop from being vectorised; the values here are finite.
  uint32_t wide;
  std::memcpy(&wide, &value, 4);
  out->bits = static_cast<uint16_t>((wide + 0x7fffu + ((wide >> 16) & 1u)) >> 16);
}

// Uniform in (-bound, bound), symmetric. `begin` is a multiple of 4.
template <typename T>
void fill_range(T* out, int64_t begin, int64_t end, uint64_t key, float bound) {
  const float step = bound / 32768.0f;
  constexpr int64_t kTile = 256;  // hash a tile, then convert it: two loops that vectorise
  uint64_t bits[kTile / 4];
  int16_t drawn[kTile];
  for (int64_t at = begin; at < end; at += kTile) {
    const int64_t count = std::min(kTile, end - at);
    for (int64_t i = 0; i < kTile / 4; ++i) bits[i] = mix(key + static_cast<uint64_t>(at / 4 + i) * kGolden);
    std::memcpy(drawn, bits, sizeof bits);
    for (int64_t i = 0; i < count; ++i) store(out + at + i, (static_cast<float>(drawn[i]) + 0.5f) * step);
  }
}

template <typename T>
void fill(T* out, int64_t count, uint64_t key, float bound) {
  const int64_t blocks = (count + kBlock - 1) / kBlock;
  const auto fill_share = [=](int64_t first, int64_t stride) {
    for (int64_t b = first; b < blocks; b += stride) fill_range(out, b * kBlock, std::min(count, (b + 1) * kBlock), key, bound);
  };
  const int64_t threads = count < kParallelFrom ? 1 : std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, 16);
  std::vector<std::jthread> others;
  for (int64_t t = 1; t < threads; ++t) others.emplace_back(fill_share, t, threads);
  fill_share(0, threads);
}

// Anonymous memory on huge pages where the system grants them: decode reads all weights once per token, and TLB misses cost there.
class Pages {
 public:
  explicit Pages(size_t bytes) {
    // Room to align the start: older kernels do not align anonymous mappings to huge pages themselves. Untouched pages cost nothing.
    const size_t slack = bytes >= kHugePage ? kHugePage : 0;
    length_ = bytes + slack;
    base_ = ::mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) {
      base_ = nullptr;
      throw MemoryError(fmt::format("random weights: no memory for a tensor of {} bytes. Use a smaller shape", bytes));
    }
    auto address = reinterpret_cast<uintptr_t>(base_);
    if (slack != 0) address = (address + kHugePage - 1) / kHugePage * kHugePage;
    data_ = reinterpret_cast<void*>(address);
#ifdef MADV_HUGEPAGE
    if (slack != 0) ::madvise(data_, bytes, MADV_HUGEPAGE);
#endif
  }
  ~Pages() {
    if (base_ != nullptr) ::munmap(base_, length_);
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  void* data() const { return data_; }

 private:
  void* base_ = nullptr;
  void* data_ = nullptr;
  size_t length_ = 0;
};

class RandomWeights final : public WeightSource {
 public:
  RandomWeights(DType dtype, uint64_t seed) : dtype_(dtype), seed_(seed) {}

  TensorView require(const std::string& name, const Shape& shape) override {
    auto at = tensors_.find(name);
    if (at == tensors_.end()) {
      at = tensors_.try_emplace(name).first;
      at->second.shape = shape;
      at->second.pages = make(name, shape);
    }
    BOLIDE_CHECK(at->second.shape == shape);
    return {at->second.pages->data(), dtype_, shape};
  }
  TensorView optional(const std::string& name, const Shape& shape) override { return require(name, shape); }
  bool contains(const std::string& name) const override { return tensors_.contains(name); }
  void throw_problems() const override {}
  std::vector<std::string> unread() const override { return {}; }
  std::string description() const override { return fmt::format("random weights, seed {}", seed_); }

 private:
  struct Tensor {
    Shape shape;
    std::unique_ptr<Pages> pages;
  };

  std::unique_ptr<Pages> make(const std::string& name, const Shape& shape) {
    uint64_t bytes = dtype_size(dtype_);
    for (const int64_t d : shape) {
      BOLIDE_CHECK(d > 0);
      if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(d), &bytes)) bytes = ~uint64_t{0};
    }
    // The system may promise more memory than it has and kill the process when it is touched.
    if (bytes > available_ || total_bytes_ > available_ - bytes) {
      throw MemoryError(fmt::format("random weights do not fit: {} {} exceeds the {:.1f} GiB free in this machine. Use a smaller shape",
                                    in_quotes(name), shape_text(shape), static_cast<double>(available_) / 0x1p30));
    }
    total_bytes_ += bytes;
    auto pages = std::make_unique<Pages>(bytes);
    const int64_t count = element_count(shape);
    if (shape.size() >= 2) {
      draw(pages->data(), count, name, std::sqrt(3.0f / static_cast<float>(shape.back())));
    } else if (name.ends_with(".bias")) {
      draw(pages->data(), count, name, kBiasBound);
    } else {
      for (int64_t i = 0; i < count; ++i) put_one(pages->data(), i);
    }
    return pages;
  }

  void draw(void* data, int64_t count, const std::string& name, float bound) const {
    const uint64_t key = tensor_key(seed_, name);
    switch (dtype_) {
      case DType::f32:
        return fill(static_cast<float*>(data), count, key, bound);
      case DType::f16:
        return fill(static_cast<Half*>(data), count, key, bound);
      case DType::bf16:
        return fill(static_cast<BFloat*>(data), count, key, bound);
      case DType::f8:  // no dtype of weights
        break;
    }
    BOLIDE_CHECK(false);
  }
  void put_one(void* data, int64_t i) const {
    switch (dtype_) {
      case DType::f32:
        static_cast<float*>(data)[i] = 1.0f;
        return;
      case DType::f16:
        static_cast<uint16_t*>(data)[i] = 0x3c00;
        return;
      case DType::bf16:
        static_cast<uint16_t*>(data)[i] = 0x3f80;
        return;
      case DType::f8:
        break;
    }
    BOLIDE_CHECK(false);
  }

  DType dtype_;
  uint64_t seed_;
  const uint64_t available_ = available_host_memory();  // before the first tensor
  uint64_t total_bytes_ = 0;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace

std::unique_ptr<WeightSource> make_random_weights(DType dtype, uint64_t seed) { return std::make_unique<RandomWeights>(dtype, seed); }

}  // namespace bolide
