#include "cuda/cuda_backend.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/error.h"
#include "cuda/architectures.h"
#include "cuda/context.h"
#include "cuda/cublaslt.h"
#include "cuda/graph.h"
#include "cuda/kv_cache.h"
#include "cuda/matrix.h"
#include "cuda/memory.h"
#include "cuda/read_bandwidth.h"

namespace bolide {
namespace {

constexpr size_t kWidenedBytes = size_t{64} << 20;

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int device, DType activations);
  ~CudaBackend() override;

  DeviceInfo info() const override;
  DType activation_dtype() const override { return context_.activations; }
  DType default_kv_dtype(DType weights) const override { return weights; }
  void require_support(const ModelDims& dims, DType weights, DType kv) const override;

  std::unique_ptr<Buffer> alloc(size_t bytes) override;
  void upload(void* to, const void* from_host, size_t bytes) override;
  void download(void* to_host, const void* from, size_t bytes) override;
  void sync() override;

  std::unique_ptr<Matrix> prepare(std::span<const TensorView> stacked_rows) override;
  std::unique_ptr<Buffer> prepare_vector(std::span<const TensorView> parts, float offset) override;
  std::unique_ptr<KvCache> alloc_kv(const KvCacheSpec& spec) override;
  void reserve(const StepCapacity& capacity, const ModelDims& dims) override;

  void embed(const EmbedArgs& args) override { cuda_embed(use(), args); }
  void norm_qkv(const NormQkvArgs& args) override { cuda_norm_qkv(use(), args); }
  void attention(const AttentionArgs& args) override { cuda_attention(use(), args); }
  void project_add(const ProjectAddArgs& args) override { cuda_project_add(use(), args); }
  void norm_gate_up(const NormGateUpArgs& args) override { cuda_norm_gate_up(use(), args); }
  void logits(const LogitsArgs& args) override { cuda_logits(use(), args); }
  void sample(const SampleArgs& args) override { cuda_sample(use(), args); }
  void run_step(const Step& step) override;
  double measure_read_bandwidth() override { return measure_cuda_read_bandwidth(use()); }

 private:
  // Every entry from above selects the device: the calling thread may have used another.
  CudaContext& use() {
    check_cuda(cudaSetDevice(context_.device), "cudaSetDevice", {"backend"});
    return context_;
  }
  template <class T>
  void grow(T*& pointer, size_t& have, std::unique_ptr<CudaBuffer>& owner, size_t bytes);
  void throw_fault();

  CudaContext context_;
  std::string name_;
  size_t memory_total_ = 0;
  StepCapacity reserved_;
  std::unique_ptr<CublasLt> cublas_;
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<CudaBuffer> operand_, row_scale_, product_, widened_, attention_, arrivals_, sampling_;
  size_t row_scale_bytes_ = 0;
  StepGraphs graphs_;
};

CudaBackend::CudaBackend(int device, DType activations) {
  const CudaSite site{"start"};
  context_.device = device;
  context_.activations = activations;
  check_cuda(cudaSetDevice(device), "cudaSetDevice", site);
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, device), "device properties", site);
  name_ = properties.name;
  memory_total_ = properties.totalGlobalMem;
  context_.multiprocessors = properties.multiProcessorCount;
  cublas_ = std::make_unique<CublasLt>();
  context_.cublas = cublas_.get();
  check_cuda(cudaStreamCreateWithFlags(&context_.stream, cudaStreamNonBlocking), "stream", site);
  staging_ = std::make_unique<Staging>(context_.stream);
  void* fault = nullptr;
  check_cuda(cudaHostAlloc(&fault, sizeof(DeviceFault), cudaHostAllocMapped), "pinned host memory", site);
  std::memset(fault, 0, sizeof(DeviceFault));
  // With unified addressing, which every 64-bit platform has, the host's address is the device's.
  context_.fault = static_cast<DeviceFault*>(fault);
}

CudaBackend::~CudaBackend() {
  cudaSetDevice(context_.device);
  cudaStreamSynchronize(context_.stream);
  graphs_.clear();
  staging_.reset();
  cublas_.reset();
  cudaFreeHost(context_.fault);
  cudaStreamDestroy(context_.stream);
}

DeviceInfo CudaBackend::info() const {
  size_t free = 0, total = 0;
  cudaSetDevice(context_.device);
  cudaMemGetInfo(&free, &total);
  return {cuda_device_id(context_.device), name_, memory_total_, free};
}

void CudaBackend::require_support(const ModelDims& dims, DType, DType) const {
  const std::string id = cuda_device_id(context_.device);
  if (dims.head_dim < 2 || dims.head_dim % 2 != 0 || dims.head_dim > 256)
    throw ModelError(fmt::format("{}: head size {} is not supported (even numbers up to 256 are). Use --device cpu", id, dims.head_dim));
  if (dims.kv_heads < 1 || dims.heads % dims.kv_heads != 0)
    throw ModelError(fmt::format("{}: {} query heads are no multiple of {} key/value heads", id, dims.heads, dims.kv_heads));
}

std::unique_ptr<Buffer> CudaBackend::alloc(size_t bytes) {
  use();
  return std::make_unique<CudaBuffer>(bytes, context_.device, "buffers");
}

void CudaBackend::upload(void* to, const void* from_host, size_t bytes) {
  use();
  staging_->copy(to, from_host, bytes);
}

void CudaBackend::download(void* to_host, const void* from, size_t bytes) {
  use();
  check_cuda(cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, context_.stream), "download", {"memory"});
  sync();
}

void CudaBackend::sync() {
  use();
  check_cuda(cudaStreamSynchronize(context_.stream), "cudaStreamSynchronize", {"step"});
  throw_fault();
}

void CudaBackend::throw_fault() {
  volatile DeviceFault* shared = context_.fault;
  const int32_t code = shared->code, row = shared->row, value = shared->value;
  if (code == DeviceFault::none) return;
  shared->code = DeviceFault::none;
  switch (code) {
    case DeviceFault::nan_logits:
    case DeviceFault::infinite_logits:
      throw Error(
          fmt::format("sample: logits row {} holds {}. Check the checkpoint's weights (inspect it, or load another copy); if it was "
                      "saved as float16, its values may overflow: use a bfloat16 or float32 copy",
                      row, code == DeviceFault::nan_logits ? "NaN" : "no finite maximum"));
    case DeviceFault::nothing_to_draw:
      throw Error(
          fmt::format("sample: penalties and biases leave no token to draw in logits row {}. Check --logit-bias and the penalties", row));
    case DeviceFault::bad_token:
      throw_contract(fmt::format("token id {} of row {} is outside the vocabulary", value, row).c_str(), {"embed"});
    default:
      throw_contract(fmt::format("slot {} of row {} is outside the KV cache", value, row).c_str(), {"norm_qkv"});
  }
}

std::unique_ptr<Matrix> CudaBackend::prepare(std::span<const TensorView> stacked_rows) {
  use();
  graphs_.clear();
  return std::make_unique<CudaMatrix>(stacked_rows, context_.device, *staging_);
}

std::unique_ptr<Buffer> CudaBackend::prepare_vector(std::span<const TensorView> parts, float offset) {
  use();
  std::vector<float> all;
  for (const TensorView& part : parts) {
    BOLIDE_CHECK(part.data != nullptr);
    const auto n = static_cast<size_t>(part.elements());
    for (size_t i = 0; i < n; ++i) all.push_back(load_element(part.data, part.dtype, i) + offset);
  }
  auto buffer = std::make_unique<CudaBuffer>(all.size() * sizeof(float), context_.device, "weights");
  staging_->copy(buffer->data(), all.data(), all.size() * sizeof(float));
  return buffer;
}

std::unique_ptr<KvCache> CudaBackend::alloc_kv(const KvCacheSpec& spec) {
  use();
  graphs_.clear();
  return std::make_unique<CudaKvCache>(spec, context_.device);
}

template <class T>
void CudaBackend::grow(T*& pointer, size_t& have, std::unique_ptr<CudaBuffer>& owner, size_t bytes) {
  if (bytes <= have) return;
  owner.reset();
  pointer = nullptr;
  have = 0;
  owner = std::make_unique<CudaBuffer>(bytes, context_.device, "workspace");
  pointer = static_cast<T*>(owner->data());
  have = bytes;
}

void CudaBackend::reserve(const StepCapacity& capacity, const ModelDims& dims) {
  use();
  sync();  // nothing may still use the scratch that grows
  graphs_.clear();
  StepCapacity& c = reserved_;
  c.tokens = std::max(c.tokens, capacity.tokens);
  c.sequences = std::max(c.sequences, capacity.sequences);
  c.logit_rows = std::max(c.logit_rows, capacity.logit_rows);
  c.chunk_ids = std::max(c.chunk_ids, capacity.chunk_ids);
  c.seen_tokens = std::max(c.seen_tokens, capacity.seen_tokens);
  c.logit_biases = std::max(c.logit_biases, capacity.logit_biases);
  context_.capacity = capacity;

  const auto size = [](int64_t n) { return static_cast<size_t>(n); };
  const int64_t q = int64_t{dims.heads} * dims.head_dim, qkv = q + 2 * int64_t{dims.kv_heads} * dims.head_dim;
  const int64_t widest_in = padded_columns(std::max<int64_t>({dims.hidden, dims.mlp, q}));
  const int64_t widest_out = padded_columns(std::max<int64_t>({dims.hidden, 2 * int64_t{dims.mlp}, qkv}));
  const int64_t rows = std::max(c.tokens, c.logit_rows);
  CudaScratch& s = context_.scratch;
  grow(s.operand, s.operand_bytes, operand_, size(rows * widest_in) * sizeof(float));
  grow(s.row_scale, row_scale_bytes_, row_scale_, size(rows) * sizeof(float));
  grow(s.product, s.product_bytes, product_, size(c.tokens * widest_out) * sizeof(float));
  grow(s.widened, s.widened_bytes, widened_, std::max(kWidenedBytes, size(widest_in) * sizeof(float)));
  const AttentionScratch attention = attention_scratch(context_.multiprocessors, std::max(std::min(c.tokens, kFewRows), c.sequences),
                                                       dims.heads, dims.kv_heads, dims.head_dim);
  grow(s.attention, s.attention_bytes, attention_, attention.partial_bytes);
  grow(s.arrivals, s.arrivals_bytes, arrivals_, attention.arrival_bytes);
  check_cuda(cudaMemsetAsync(s.arrivals, 0, s.arrivals_bytes, context_.stream), "memset", {"reserve"});
  grow(s.sampling, s.sampling_bytes, sampling_, size(int64_t{c.logit_rows} * dims.vocab) * sizeof(float));
  sync();
}

void CudaBackend::run_step(const Step& step) {
  use();
  const StepCapacity& c = step.capacity;
  BOLIDE_CHECK(c.tokens <= reserved_.tokens && c.sequences <= reserved_.sequences && c.logit_rows <= reserved_.logit_rows);
  context_.capacity = c;
  // Ops called one by one keep the capacity of the last reserve().
  struct Restore {
    StepCapacity& capacity;
    StepCapacity saved;
    ~Restore() { capacity = saved; }
  } const restore{context_.capacity, context_.capacity};
  context_.capacity = c;
  graphs_.run(step, context_.stream, [&] { Backend::run_step(step); });
}

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(int device, DType activations) {
  const CudaDevices found = cuda_devices();
  const std::string id = cuda_device_id(device);
  const bool usable = std::any_of(found.devices.begin(), found.devices.end(), [&](const DeviceInfo& d) { return d.id == id; });
  if (!usable) {
    cudaDeviceProp properties{};
    int count = 0;
    if (cudaGetDeviceCount(&count) == cudaSuccess && device >= 0 && device < count &&
        cudaGetDeviceProperties(&properties, device) == cudaSuccess) {
      throw Error(
          fmt::format("cuda asked for, but GPU {} is sm_{}{} and this build holds {}. Use --device cpu, or rebuild with "
                      "-DCMAKE_CUDA_ARCHITECTURES={}{}",
                      device, properties.major, properties.minor, compiled_architectures().text(), properties.major, properties.minor));
    }
    cudaGetLastError();
    if (count > 0)
      throw Error(fmt::format("{} asked for, but this machine has {} CUDA device{}, numbered from 0. Use one of them, or --device cpu", id,
                              count, count == 1 ? "" : "s"));
    throw Error(fmt::format("cuda asked for, but {}. Install an NVIDIA driver for CUDA {} or later, or use --device cpu",
                            found.problems.empty() ? "there is no CUDA device" : found.problems.front(), CUDART_VERSION / 1000));
  }
  if (activations != DType::bf16 && activations != DType::f32)
    throw UsageError(fmt::format("{}: activations are bfloat16 or float32, not {}", id, dtype_name(activations)));
  return std::make_unique<CudaBackend>(device, activations);
}

}  // namespace bolide
