#include "cuda/cuda_backend.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "core/error.h"
#include "cuda/architectures.h"
#include "cuda/capture.h"
#include "cuda/context.h"
#include "cuda/cublaslt.h"
#include "cuda/decode/decode_step.h"
#include "cuda/decode/mailbox.h"
#include "cuda/decode/run_on.h"
#include "cuda/download.h"
#include "cuda/environment.h"
#include "cuda/fault.h"
#include "cuda/graph.h"
#include "cuda/halves.h"
#include "cuda/kv_cache.h"
#include "cuda/matrix.h"
#include "cuda/memory.h"
#include "cuda/norm_qkv_comparison.h"
#include "cuda/nvml.h"
#include "cuda/product.h"
#include "cuda/read_bandwidth.h"
#include "cuda/scratch.h"
#include "cuda/step.h"
#include "cuda/upload.h"

namespace bolide {
namespace {

constexpr size_t kAheadPieceBytes = size_t{1} << 20;

// Ops called one by one have the capacity of the last reserve(), those of a step the step's, and what is known of its inputs.
class CapacityOfStep {
 public:
  CapacityOfStep(CudaContext& context, const Step& step) : context_(context), saved_(context.capacity) {
    context.capacity = step.capacity;
    context.one_row_each = step.one_row_each;
  }
  ~CapacityOfStep() {
    context_.capacity = saved_;
    context_.one_row_each = false;
  }
  CapacityOfStep(const CapacityOfStep&) = delete;
  CapacityOfStep& operator=(const CapacityOfStep&) = delete;

 private:
  CudaContext& context_;
  StepCapacity saved_;
};

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int device, DType activations);
  ~CudaBackend() override;

  DeviceInfo info() const override;
  DType activation_dtype() const override { return context_.activations; }
  DType default_kv_dtype(DType weights) const override { return weights; }
  int32_t default_step_tokens() const override { return 2048; }  // 512 take half as long on an H100
  void require_support(const ModelDims& dims, DType weights, DType kv) const override;

  std::unique_ptr<Buffer> alloc(size_t bytes) override;
  void upload(void* to, const void* from_host, size_t bytes) override;
  void download(void* to_host, const void* from, size_t bytes) override;
  void upload_ahead(void* to, const void* from_host, size_t bytes) override;
  void sync() override;
  std::unique_ptr<Download> make_download(size_t bytes) override;
  bool asynchronous() const override { return true; }

  std::unique_ptr<Matrix> prepare(std::span<const TensorView> stacked_rows) override;
  std::unique_ptr<Buffer> prepare_vector(std::span<const TensorView> parts, float offset) override;
  std::unique_ptr<KvCache> alloc_kv(const KvCacheSpec& spec) override;
  void reserve(const StepCapacity& capacity, const ModelDims& dims) override;
  size_t scratch_bytes(const StepCapacity& capacity, const ModelDims& dims) const override;

  void copy_chunks(KvCache& kv, std::span<const ChunkCopy> copies) override {
    cuda_copy_chunks(use(), kv_view(kv), kv.spec().layers, copies.data(), copies.size());
  }
  void embed(const EmbedArgs& args) override { cuda_embed(use(), args); }
  void norm_qkv(const NormQkvArgs& args) override { cuda_norm_qkv(use(), args); }
  void attention(const AttentionArgs& args) override { cuda_attention(use(), args); }
  void project_add(const ProjectAddArgs& args) override { cuda_project_add(use(), args); }
  void norm_gate_up(const NormGateUpArgs& args) override { cuda_norm_gate_up(use(), args); }
  void logits(const LogitsArgs& args) override { cuda_logits(use(), args); }
  void sample(const SampleArgs& args) override { cuda_sample(use(), args); }
  void run_step(const Step& step) override;
  double measure_read_bandwidth() override { return measure_cuda_read_bandwidth(use()); }
  DeviceState state() override { return nvml_device_state(context_.device); }
  std::vector<OpTime> time_ops(const Step& step, int32_t repetitions) override;
  StepForm step_form(const Step& step, int32_t repetitions) override;
  std::optional<DecodeForm> decode_form(const DecodeModel& model) const override;
  NormQkvComparison compare_norm_qkv(const NormQkvShape& shape) override;

  DecodeCounters counters() const {
    return run_on_ ? DecodeCounters{run_on_->steps(), run_on_->launches(), run_on_->left_out()} : DecodeCounters();
  }

 private:
  // Every entry from above selects the device: the calling thread may have used another.
  void select() { check_cuda(cudaSetDevice(context_.device), "cudaSetDevice", {"backend"}); }
  // Before anything goes on the stream: no step is left behind.
  void take_stream() {
    select();
    if (run_on_) run_on_->leave();
  }
  // The same for what may read weights: they are there afterwards.
  CudaContext& use() {
    take_stream();
    uploader_.finish();
    return context_;
  }
  // Whether decode kernels may go on from such a step to the next.
  bool may_run_on(const Step& step) const { return run_on_ && decode_.goes_on(context_, step); }
  template <class T>
  void grow(T*& pointer, size_t& have, std::unique_ptr<CudaBuffer>& owner, size_t bytes);
  void run_or_post(const Step& step);

  CudaContext context_;
  std::string name_;
  size_t memory_total_ = 0;
  StepCapacity reserved_;
  std::unique_ptr<CublasLt> cublas_;
  std::unique_ptr<Staging> staging_, ahead_staging_;
  cudaStream_t uploads_ = nullptr, downloads_ = nullptr;
  cudaEvent_t ahead_ = nullptr;  // the last upload_ahead
  bool ahead_pending_ = false;   // and whether a step has waited for it
  Uploader uploader_;
  std::unique_ptr<CudaBuffer> operand_, row_scale_, product_, widened_, wide_, attention_, arrivals_, sampling_, halves_;
  size_t row_scale_bytes_ = 0;
  DecodeSteps decode_;
  bool kernel_wanted_ = decode_kernel_wanted();
  int32_t most_steps_ = decode_steps_of_launch();
  std::unique_ptr<DecodeMailbox> mailbox_;
  std::unique_ptr<RunOn> run_on_;  // null: every step is launched
  StepGraphs graphs_;
};

// Clocks in which one multiprocessor's share of the memory's nominal bandwidth brings a KB, and a little more: measured on an H100, where
// 80 are the share, 85 served decoding best (docs/performance.md).
int copy_pace(int device, int multiprocessors, const CudaSite& site) {
  int clock_khz = 0, memory_khz = 0, bus_bits = 0;
  check_cuda(cudaDeviceGetAttribute(&clock_khz, cudaDevAttrClockRate, device), "clock rate", site);
  check_cuda(cudaDeviceGetAttribute(&memory_khz, cudaDevAttrMemoryClockRate, device), "memory clock rate", site);
  check_cuda(cudaDeviceGetAttribute(&bus_bits, cudaDevAttrGlobalMemoryBusWidth, device), "memory bus width", site);
  const double bytes_per_second = 2e3 * memory_khz * bus_bits / 8;
  if (!(bytes_per_second > 0)) return 0;
  return static_cast<int>(1.06 * 1024 * multiprocessors * 1e3 * clock_khz / bytes_per_second);
}

CudaBackend::CudaBackend(int device, DType activations) : uploader_(device), decode_(device) {
  const CudaSite site{"start"};
  context_.device = device;
  context_.activations = activations;
  check_cuda(cudaSetDevice(device), "cudaSetDevice", site);
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, device), "device properties", site);
  name_ = properties.name;
  memory_total_ = properties.totalGlobalMem;
  context_.multiprocessors = properties.multiProcessorCount;
  context_.l2_bytes = static_cast<size_t>(properties.l2CacheSize);
  context_.compute_capability = 10 * properties.major + properties.minor;
  context_.dependent_launch = properties.major >= 9 && row_product_compiled(site);
  context_.copy_pace = copy_pace(device, properties.multiProcessorCount, site);
  if (kernel_wanted_) context_.decode = &decode_;
  cublas_ = std::make_unique<CublasLt>(device);
  context_.cublas = cublas_.get();
  check_cuda(cudaStreamCreateWithFlags(&context_.stream, cudaStreamNonBlocking), "stream", site);
  staging_ = std::make_unique<Staging>(context_.stream);
  check_cuda(cudaStreamCreateWithFlags(&uploads_, cudaStreamNonBlocking), "stream", site);
  check_cuda(cudaStreamCreateWithFlags(&downloads_, cudaStreamNonBlocking), "stream", site);
  check_cuda(cudaEventCreateWithFlags(&ahead_, cudaEventDisableTiming), "event", site);
  context_.halves.wanted = context_.dependent_launch ? halving_wanted() : Halving::none;
  if (context_.halves.wanted != Halving::none) {
    check_cuda(cudaStreamCreateWithFlags(&context_.halves.stream, cudaStreamNonBlocking), "stream", site);
    check_cuda(cudaEventCreateWithFlags(&context_.halves.fork, cudaEventDisableTiming), "event", site);
    check_cuda(cudaEventCreateWithFlags(&context_.halves.join, cudaEventDisableTiming), "event", site);
  }
  ahead_staging_ = std::make_unique<Staging>(uploads_, kAheadPieceBytes);
  void* fault = nullptr;
  check_cuda(cudaHostAlloc(&fault, sizeof(DeviceFault), cudaHostAllocMapped), "pinned host memory", site);
  std::memset(fault, 0, sizeof(DeviceFault));
  // With unified addressing, which every 64-bit platform has, the host's address is the device's.
  context_.fault = static_cast<DeviceFault*>(fault);
  if (context_.decode && most_steps_ > 1 && properties.major == 9) {
    mailbox_ = std::make_unique<DecodeMailbox>(context_, uploads_, *ahead_staging_, ahead_, [this] { throw_fault(context_, decode_); });
    run_on_ = std::make_unique<RunOn>(*mailbox_);
  }
}

CudaBackend::~CudaBackend() {
  cudaSetDevice(context_.device);
  uploader_.wait();
  cudaStreamSynchronize(context_.stream);
  graphs_.clear();
  run_on_.reset();
  mailbox_.reset();
  staging_.reset();
  ahead_staging_.reset();
  cudaEventDestroy(ahead_);
  if (context_.halves.stream) {
    cudaStreamDestroy(context_.halves.stream);
    cudaEventDestroy(context_.halves.fork);
    cudaEventDestroy(context_.halves.join);
  }
  cudaStreamDestroy(uploads_);
  cudaStreamDestroy(downloads_);
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
  select();
  return std::make_unique<CudaBuffer>(bytes, context_.device, "buffers");
}

void CudaBackend::upload(void* to, const void* from_host, size_t bytes) {
  take_stream();
  staging_->copy(to, from_host, bytes);
}

void CudaBackend::download(void* to_host, const void* from, size_t bytes) {
  use();
  check_cuda(cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, context_.stream), "download", {"memory"});
  sync();
}

void CudaBackend::upload_ahead(void* to, const void* from_host, size_t bytes) {
  select();
  ahead_staging_->copy(to, from_host, bytes);
  check_cuda(cudaEventRecord(ahead_, uploads_), "upload", {"memory"});
  ahead_pending_ = true;
}

void CudaBackend::sync() {
  use().cublas->ready();
  const cudaError_t status = cudaStreamSynchronize(context_.stream);
  throw_fault(context_, decode_);  // first: a kernel that reports a fault and ends itself fails the stream too, and the fault says more
  check_cuda(status, "cudaStreamSynchronize", {"step"});
}

std::unique_ptr<Download> CudaBackend::make_download(size_t bytes) {
  use();
  return std::make_unique<CudaDownload>(
      context_.stream, downloads_, bytes, [this] { throw_fault(context_, decode_); }, run_on_.get());
}

std::unique_ptr<Matrix> CudaBackend::prepare(std::span<const TensorView> stacked_rows) {
  take_stream();
  graphs_.clear();
  decode_.clear();
  return std::make_unique<CudaMatrix>(stacked_rows, context_.device, *staging_, uploader_);
}

std::unique_ptr<Buffer> CudaBackend::prepare_vector(std::span<const TensorView> parts, float offset) {
  take_stream();
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
  take_stream();
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
  // Nothing may still use the scratch that grows. Not sync(), which waits for cuBLASLt, too: that is loaded beside the weights.
  check_cuda(cudaStreamSynchronize(context_.stream), "cudaStreamSynchronize", {"reserve"});
  graphs_.clear();
  StepCapacity& c = reserved_;
  c.tokens = std::max(c.tokens, capacity.tokens);
  c.sequences = std::max(c.sequences, capacity.sequences);
  c.logit_rows = std::max(c.logit_rows, capacity.logit_rows);
  c.chunk_ids = std::max(c.chunk_ids, capacity.chunk_ids);
  c.seen_tokens = std::max(c.seen_tokens, capacity.seen_tokens);
  c.logit_biases = std::max(c.logit_biases, capacity.logit_biases);
  context_.capacity = capacity;

  const ScratchSizes sizes = scratch_sizes(c, dims, context_);
  CudaScratch& s = context_.scratch;
  grow(s.operand, s.operand_bytes, operand_, sizes.operand);
  grow(s.row_scale, row_scale_bytes_, row_scale_, sizes.row_scale);
  grow(s.product, s.product_bytes, product_, sizes.product);
  grow(s.widened, s.widened_bytes, widened_, sizes.widened);
  grow(s.wide, s.wide_bytes, wide_, sizes.wide);
  grow(s.attention, s.attention_bytes, attention_, sizes.attention.partial_bytes);
  grow(s.arrivals, s.arrivals_bytes, arrivals_, sizes.attention.arrival_bytes);
  check_cuda(cudaMemsetAsync(s.arrivals, 0, s.arrivals_bytes, context_.stream), "memset", {"reserve"});
  grow(s.sampling, s.sampling_bytes, sampling_, sizes.sampling);
  grow(s.halves, s.halves_bytes, halves_, sizes.halves);
  check_cuda(cudaStreamSynchronize(context_.stream), "cudaStreamSynchronize", {"reserve"});
}

size_t CudaBackend::scratch_bytes(const StepCapacity& capacity, const ModelDims& dims) const {
  return scratch_sizes(capacity, dims, context_).total() + DecodeSteps::memory_bytes();
}

std::vector<OpTime> CudaBackend::time_ops(const Step& step, int32_t repetitions) {
  use();
  const CapacityOfStep scope(context_, step);
  return time_pieces(context_.stream, step.ops.size(), repetitions, [&](size_t i) { run_op_at(step, i); });
}

StepForm CudaBackend::step_form(const Step& step, int32_t repetitions) {
  use();
  const CapacityOfStep scope(context_, step);
  const std::string obstacle = context_.decode ? decode_.why_not(context_, step) : "is switched off";
  if (!obstacle.empty()) {
    const char* form = runs_in_halves(context_, step) ? "a graph of two halves side by side, each of kernels one after another"
                                                      : "a graph of kernels, one after another";
    return {fmt::format("{} (the decode kernel {})", form, obstacle), {}};
  }
  return {step.plain_sampling ? "one kernel" : "one kernel, and one more for sampling", decode_.phases(context_, step, repetitions)};
}

std::optional<DecodeForm> CudaBackend::decode_form(const DecodeModel& model) const {
  return context_.decode ? DecodeSteps::form(context_, model) : DecodeForm{0, "is switched off"};
}

NormQkvComparison CudaBackend::compare_norm_qkv(const NormQkvShape& shape) {
  use().cublas->ready();
  // With float32 activations every product, norm and buffer is float32.
  struct Restore {
    DType& activations;
    DType saved;
    ~Restore() { activations = saved; }
  } const restore{context_.activations, context_.activations};
  context_.activations = shape.dtype;
  return compare_cuda_norm_qkv(context_, *this, shape);
}

void CudaBackend::run_step(const Step& step) {
  select();
  uploader_.finish();
  const StepCapacity& c = step.capacity;
  BOLIDE_CHECK(c.tokens <= reserved_.tokens && c.sequences <= reserved_.sequences && c.logit_rows <= reserved_.logit_rows);
  if (may_run_on(step)) return run_or_post(step);
  take_stream();
  const CapacityOfStep scope(context_, step);
  if (std::exchange(ahead_pending_, false)) check_cuda(cudaStreamWaitEvent(context_.stream, ahead_), "wait for an upload", {"step"});
  if (!step.copies.empty()) copy_chunks(*step.kv, step.copies);
  const bool one_kernel = context_.decode && decode_.why_not(context_, step).empty();
  enum Form { graph, kernel, halves };
  const Form form = one_kernel ? kernel : runs_in_halves(context_, step) ? halves : graph;
  graphs_.run(step, form, context_.stream, [&] { enqueue_step(context_, step); });
}

void CudaBackend::run_or_post(const Step& step) {
  if (!step.copies.empty()) {
    take_stream();
    if (std::exchange(ahead_pending_, false)) check_cuda(cudaStreamWaitEvent(context_.stream, ahead_), "wait for an upload", {"step"});
    copy_chunks(*step.kv, step.copies);
  }
  ahead_pending_ = false;  // the launch waits, or the kernel for the word behind the upload
  DecodeLaunch launch = decode_.launch_of(context_, step);
  mailbox_->join(launch.parameters, most_steps_);
  run_on_->run(launch);
}

}  // namespace

DecodeCounters cuda_decode_counters(const Backend& backend) { return dynamic_cast<const CudaBackend&>(backend).counters(); }

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
