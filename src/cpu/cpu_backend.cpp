#include "cpu/cpu_backend.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>

#include "core/cpu_limits.h"
#include "core/error.h"
#include "cpu/kernels.h"
#include "cpu/mapped_memory.h"
#include "cpu/product.h"
#include "cpu/product_tile.h"
#include "cpu/roofline.h"
#include "cpu/vector_ops.h"

// Which targets there are is said before any Highway header.
// clang-format off
#include "cpu/simd_targets.h"
#include <hwy/highway.h>
// clang-format on

namespace bolide {
namespace {

class CpuBuffer final : public Buffer {
 public:
  explicit CpuBuffer(size_t bytes) : memory_(std::max<size_t>(bytes, 1)), bytes_(bytes) {
#ifndef NDEBUG
    std::memset(memory_.data(), 0xff, memory_.bytes());  // NaN in every dtype
#endif
  }
  void* data() override { return memory_.data(); }
  size_t bytes() const override { return bytes_; }

 private:
  MappedMemory memory_;
  size_t bytes_;
};

void grow(CpuContext::Scratch& scratch, size_t bytes) {
  if (bytes <= scratch.bytes) return;
  constexpr size_t kAlignment = 64;
  const size_t whole = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  auto* data = static_cast<std::byte*>(std::aligned_alloc(kAlignment, whole));
  if (!data)
    throw MemoryError(
        fmt::format("cannot get {:.1f} MiB of scratch memory; lower --max-num-batched-tokens", static_cast<double>(whole) / (1 << 20)));
  scratch.data = {data, [](void* p) { std::free(p); }};
  scratch.bytes = whole;
}

// "model name" of /proc/cpuinfo.
std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0 && line.find(": ") != std::string::npos) return line.substr(line.find(": ") + 2);
  }
  return "CPU";
}

size_t meminfo_bytes(const std::string& key) {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key + ":", 0) != 0) continue;
    size_t kilobytes = 0;
    std::istringstream(line.substr(key.size() + 1)) >> kilobytes;
    return kilobytes * 1024;
  }
  return 0;
}

// What the machine has left, or what the process's cgroup leaves it where that is less.
size_t memory_available() {
  const size_t machine = meminfo_bytes("MemAvailable");
  const auto cgroup = cgroup_memory_left("/");
  return cgroup ? std::min<size_t>(machine, *cgroup) : machine;
}

std::string simd_name() {
  const std::string target = simd_target_in_use();
  if (target == "AVX3") return "AVX-512";
  return target == "SCALAR" || target == "EMU128" ? "no SIMD" : target;
}

ThreadBudget choose_threads(int wanted) {
  if (wanted > 0) return {wanted, "as asked for"};
  if (wanted < 0) throw UsageError(fmt::format("{} threads asked for; use 1 or more, or 0 for the default", wanted));
  return default_threads();
}

// The first product after op `i`, where the last op is followed by the first one of the next step.
CpuContext::Upcoming next_product(const Step& step, size_t i) {
  const auto matrix = [](const Matrix* m) { return static_cast<const CpuMatrix*>(m); };
  for (size_t seen = 0; seen < step.ops.size(); ++seen) {
    i = (i + 1) % step.ops.size();
    if (const auto* qkv = std::get_if<NormQkvArgs>(&step.ops[i])) return {matrix(qkv->qkv), 1};
    if (const auto* project = std::get_if<ProjectAddArgs>(&step.ops[i])) return {matrix(project->weight), 1};
    if (const auto* gate_up = std::get_if<NormGateUpArgs>(&step.ops[i])) return {matrix(gate_up->gate_up), 2};
    if (const auto* head = std::get_if<LogitsArgs>(&step.ops[i])) return {matrix(head->head), 1};
  }
  return {};
}

class CpuDownload final : public Download {
 public:
  explicit CpuDownload(size_t bytes) : bytes_(std::make_unique_for_overwrite<std::byte[]>(bytes)) {}
  void start(const void* from, size_t bytes) override { std::memcpy(bytes_.get(), from, bytes); }
  const void* wait() override { return bytes_.get(); }

 private:
  std::unique_ptr<std::byte[]> bytes_;
};

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const CpuOptions& options) : budget_(choose_threads(options.threads)), pool_(budget_.threads) {
    if (options.bf16_products && !has_bf16_products()) {
      throw Error("products in bf16 asked for, but this CPU has no AVX-512 BF16; leave the option out");
    }
    context_.bf16_products = options.bf16_products;
  }

  DeviceInfo info() const override {
    const std::string threads = fmt::format("{} thread{} ({})", budget_.threads, budget_.threads == 1 ? "" : "s", budget_.reason);
    const std::string products = context_.bf16_products ? ", bf16 products" : "";
    return {"cpu", fmt::format("{}, {}, {}{}", cpu_name(), threads, simd_name(), products), meminfo_bytes("MemTotal"), memory_available()};
  }
  DType activation_dtype() const override { return DType::f32; }
  DType default_kv_dtype(DType) const override { return DType::f32; }

  void require_support(const ModelDims& dims, DType, DType) const override {
    if (dims.hidden < 1 || dims.mlp < 1 || dims.layers < 1 || dims.vocab < 1)
      throw Error("the CPU backend needs a model with at least one layer, row and token");
    if (dims.head_dim < 2 || dims.head_dim % 2 != 0)
      throw Error(fmt::format("the CPU backend needs an even head_dim, this model has {}", dims.head_dim));
    if (dims.kv_heads < 1 || dims.heads < 1 || dims.heads % dims.kv_heads != 0) {
      throw Error(fmt::format("the CPU backend needs query heads in groups of equal size, this model has {} for {} key/value heads",
                              dims.heads, dims.kv_heads));
    }
  }

  std::unique_ptr<Buffer> alloc(size_t bytes) override { return std::make_unique<CpuBuffer>(bytes); }
  void upload(void* to, const void* from_host, size_t bytes) override { copy(to, from_host, bytes); }
  void download(void* to_host, const void* from, size_t bytes) override { copy(to_host, from, bytes); }
  void sync() override {}
  std::unique_ptr<Download> make_download(size_t bytes) override { return std::make_unique<CpuDownload>(bytes); }

  std::unique_ptr<Matrix> prepare(std::span<const TensorView> stacked_rows) override { return std::make_unique<CpuMatrix>(stacked_rows); }

  std::unique_ptr<Buffer> prepare_vector(std::span<const TensorView> parts, float offset) override {
    int64_t count = 0;
    for (const TensorView& part : parts) {
      BOLIDE_CHECK(part);
      count += part.elements();
    }
    auto buffer = alloc(static_cast<size_t>(count) * sizeof(float));
    auto* out = static_cast<float*>(buffer->data());
    for (const TensorView& part : parts) {
      const auto* bytes = static_cast<const std::byte*>(part.data);
      const size_t size = dtype_size(part.dtype);
      for (int64_t i = 0; i < part.elements(); ++i) {
        std::byte element[4];  // copied, as the address may be unaligned
        std::memcpy(element, bytes + static_cast<size_t>(i) * size, size);
        *out++ = load_one(element, part.dtype) + offset;
      }
    }
    return buffer;
  }

  std::unique_ptr<KvCache> alloc_kv(const KvCacheSpec& spec) override { return std::make_unique<CpuKvCache>(spec); }

  void reserve(const StepCapacity& capacity, const ModelDims& dims) override {
    context_.capacity = capacity;
    context_.dims = dims;
    grow(context_.products, cpu_products_scratch(capacity, dims, pool_.size()));
    std::memset(context_.products.data.get(), 0, run_product_scratch(0, 0, pool_.size()));  // no worker has made a product's rows ready
    grow(context_.attention, cpu_attention_scratch(capacity, dims, pool_.size()));
    grow(context_.sampling, cpu_sampling_scratch(capacity, dims, pool_.size()));
  }

  size_t scratch_bytes(const StepCapacity& capacity, const ModelDims& dims) const override {
    return cpu_products_scratch(capacity, dims, pool_.size()) + cpu_attention_scratch(capacity, dims, pool_.size()) +
           cpu_sampling_scratch(capacity, dims, pool_.size());
  }

  void copy_chunks(KvCache& kv, std::span<const ChunkCopy> copies) override {
    for (const ChunkCopy& copy : copies) static_cast<CpuKvCache&>(kv).copy(copy);
  }
  void embed(const EmbedArgs& args) override { cpu_embed(context_, args); }
  void norm_qkv(const NormQkvArgs& args) override { cpu_norm_qkv(context_, args); }
  void attention(const AttentionArgs& args) override { cpu_attention(context_, args); }
  void project_add(const ProjectAddArgs& args) override { cpu_project_add(context_, args); }
  void norm_gate_up(const NormGateUpArgs& args) override { cpu_norm_gate_up(context_, args); }
  void logits(const LogitsArgs& args) override { cpu_logits(context_, args); }
  void sample(const SampleArgs& args) override { cpu_sample(context_, args); }

  void run_op_at(const Step& step, size_t index) override {
    const struct Forget {
      CpuContext& context;
      ~Forget() { context.upcoming = {}; }
    } forget{context_};
    context_.upcoming = next_product(step, index);
    run_op(step.ops[index]);
  }

  double measure_read_bandwidth() override {
    // Between the tests of a benchmark a model lies in memory: half of what is left stays free.
    constexpr size_t kLeast = size_t{64} << 20;
    return measure_cpu_read_bandwidth(pool_, std::clamp(memory_available() / 2, kLeast, kRooflineBytes));
  }

  double probe_read_bandwidth() override {
    // The buffer stays while the model runs, so that it takes less of what is left.
    constexpr size_t kLeast = size_t{64} << 20;
    if (!read_probe_) read_probe_.emplace(pool_, std::clamp(memory_available() / 8, kLeast, kRooflineBytes));
    return read_probe_->measure();
  }

 private:
  static void copy(void* to, const void* from, size_t bytes) {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  static float load_one(const std::byte* element, DType dtype) {
    if (dtype == DType::f32) {
      float value;
      std::memcpy(&value, element, sizeof value);
      return value;
    }
    uint16_t bits;
    std::memcpy(&bits, element, sizeof bits);
    return dtype == DType::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
  }

  ThreadBudget budget_;
  ThreadPool pool_;
  CpuContext context_{pool_, {}, {}};
  std::optional<CpuReadProbe> read_probe_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options) { return std::make_unique<CpuBackend>(options); }

std::string highway_version() { return fmt::format("{}.{}", HWY_MAJOR, HWY_MINOR); }

std::string cpu_simd_description() { return fmt::format("{} (of {})", simd_target_in_use(), fmt::join(simd_targets_compiled(), " ")); }

}  // namespace bolide
