// What a compute backend is to the rooms above it. Two peers implement it: src/cpu and cuda. They never see each other.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/op_comparison.h"
#include "backend/ops.h"
#include "core/tensor.h"

namespace bolide {

struct DeviceInfo {
  std::string id;           // "cpu", "cuda:0"
  std::string name;         // "AMD EPYC 9575F, 2 threads, AVX-512", "NVIDIA H100 80GB HBM3"
  size_t memory_total = 0;  // bytes
  size_t memory_free = 0;
};

// What a device says about itself now; 0 or empty where it does not say.
struct DeviceState {
  std::string driver;  // version
  int32_t sm_clock_mhz = 0, memory_clock_mhz = 0;
  int32_t max_sm_clock_mhz = 0, max_memory_clock_mhz = 0;
  int32_t temperature_c = 0;
  double power_watts = 0, power_limit_watts = 0;
  std::string throttled_by;  // "power limit, temperature"
};

// Bytes in backend memory, 256-byte aligned. Move-only by unique_ptr.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() = 0;
  virtual size_t bytes() const = 0;
};

// Bytes on their way from backend memory to the host.
class Download {
 public:
  virtual ~Download() = default;
  // Starts the copy behind the work enqueued so far and beside work enqueued later, which must leave the bytes alone until wait() has
  // returned; bytes at most what the download was made for. One at a time.
  virtual void start(const void* from, size_t bytes) = 0;
  // Waits for that copy alone and throws what the backend found wrong until now. The bytes stay until the next start().
  virtual const void* wait() = 0;
};

// A prepared matrix [rows, columns]: rows of several checkpoint tensors stacked in the order given.
class Matrix {
 public:
  virtual ~Matrix() = default;
  virtual int64_t rows() const = 0;
  virtual int64_t columns() const = 0;
  virtual size_t bytes() const = 0;  // read per full use
};

struct KvCacheSpec {
  int32_t layers = 0, kv_heads = 0, head_dim = 0;
  int32_t chunk_tokens = 0;  // C
  int32_t chunks = 0;
  DType dtype = DType::f32;
  size_t bytes_per_token() const { return 2 * size_t(layers) * size_t(kv_heads) * size_t(head_dim) * dtype_size(dtype); }
  size_t bytes() const { return bytes_per_token() * size_t(chunk_tokens) * size_t(chunks); }
};
class KvCache {
 public:
  virtual ~KvCache() = default;
  virtual const KvCacheSpec& spec() const = 0;
};

// Sizes that ops need to plan scratch memory for.
struct ModelDims {
  int32_t hidden = 0, mlp = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, vocab = 0;
  DType kv = DType::f32;  // of the KV cache
};

// How long one op of a step took, and how many kernels it launched (0: the backend has none).
struct OpTime {
  double seconds = 0;
  int32_t kernels = 0;
};

// Where one kernel that runs a whole step spends its time: a phase's share of each block's time, meaned over the blocks, in seconds a step.
struct PhaseTime {
  std::string name;    // "QKV product"
  double waiting = 0;  // for results of other blocks
  double loading = 0;  // of weights from shared memory to registers, and for their arrival there
  double computing = 0;
};
// How a step runs as a whole.
struct StepForm {
  std::string text;               // "one kernel", "40 kernels in a graph (the decode kernel takes at most 8 rows)"; empty: op by op
  std::vector<PhaseTime> phases;  // of one kernel; empty where there is no such thing
};

// What of a model and its cache decides how a backend runs decode steps.
struct DecodeModel {
  ModelDims dims;
  std::optional<DType> weights;  // of all matrices; none where they differ
  DType kv = DType::f32;
  int32_t chunk_tokens = 0;  // C
  int32_t chunks = 0;        // of the cache
  int64_t longest = 0;       // tokens of a sequence
};
// How it runs them where it has one kernel for a whole step.
struct DecodeForm {
  int32_t one_kernel_up_to = 0;  // sequences of a step; 0: never
  std::string reason;            // why not more, or never: "takes at most 8 rows", "takes a bfloat16 KV cache"
};

constexpr int32_t kDefaultStepTokens = 512;  // the least of any backend's
// Rows that a step has at least where `asked` are asked for, 0 being what suits the device, whichever it will be.
constexpr int32_t least_step_tokens(int32_t asked) { return asked > 0 ? asked : kDefaultStepTokens; }

class Backend {
 public:
  virtual ~Backend() = default;

  virtual DeviceInfo info() const = 0;
  virtual DType activation_dtype() const = 0;
  // What auto means for --kv-cache-dtype here.
  virtual DType default_kv_dtype(DType weights) const = 0;
  // Rows of a step that prompts are cut into where nothing else is asked for: enough to keep the device busy, few enough that sequences
  // beside a long prompt get their next token soon.
  virtual int32_t default_step_tokens() const { return kDefaultStepTokens; }
  // Throws Error naming what is not supported (dtype, head size, ...). Called once per model, before anything is prepared.
  virtual void require_support(const ModelDims& dims, DType weights, DType kv) const = 0;

  // Memory. alloc throws MemoryError; fresh bytes are unspecified (NaN in debug builds).
  virtual std::unique_ptr<Buffer> alloc(size_t bytes) = 0;
  virtual void upload(void* to, const void* from_host, size_t bytes) = 0;
  virtual void download(void* to_host, const void* from, size_t bytes) = 0;
  // The same beside the step under way, which must not use those bytes; run_step() waits for it.
  virtual void upload_ahead(void* to, const void* from_host, size_t bytes) { upload(to, from_host, bytes); }
  virtual void sync() = 0;
  virtual std::unique_ptr<Download> make_download(size_t bytes) = 0;
  // True when run_step() returns before its work is done, so that the next step can be prepared meanwhile.
  virtual bool asynchronous() const { return false; }

  // Weights. The views must outlive the matrix (the CPU reads them in place).
  virtual std::unique_ptr<Matrix> prepare(std::span<const TensorView> stacked_rows) = 0;
  // Concatenates vectors into backend memory as f32, `offset` added to each element. Absent views are not allowed.
  virtual std::unique_ptr<Buffer> prepare_vector(std::span<const TensorView> parts, float offset) = 0;

  virtual std::unique_ptr<KvCache> alloc_kv(const KvCacheSpec& spec) = 0;
  // Scratch memory for steps of at most this capacity; called before the first step and again when the capacity grows.
  virtual void reserve(const StepCapacity& capacity, const ModelDims& dims) = 0;
  // What a first reserve() of that capacity will take.
  virtual size_t scratch_bytes(const StepCapacity& capacity, const ModelDims& dims) const = 0;

  // Steps' copies, eager; ids and token counts are within the cache.
  virtual void copy_chunks(KvCache& kv, std::span<const ChunkCopy> copies) = 0;

  // The seven ops, eager. Asynchronous backends return before the work is done.
  virtual void embed(const EmbedArgs& args) = 0;
  virtual void norm_qkv(const NormQkvArgs& args) = 0;
  virtual void attention(const AttentionArgs& args) = 0;
  virtual void project_add(const ProjectAddArgs& args) = 0;
  virtual void norm_gate_up(const NormGateUpArgs& args) = 0;
  virtual void logits(const LogitsArgs& args) = 0;
  virtual void sample(const SampleArgs& args) = 0;

  virtual double measure_read_bandwidth() = 0;  // bytes/s, measured now
  // The same, quickly enough to stand beside a run of a second. The first call may take longer; what it sets up stays for the next ones.
  virtual double probe_read_bandwidth() { return measure_read_bandwidth(); }
  virtual DeviceState state() { return {}; }

  // Runs a whole step, its copies first. Here: op by op. A backend may capture the ops as a graph or recognise them as one kernel.
  virtual void run_step(const Step& step);

  // Runs the step `repetitions` >= 1 times with a mark between its ops and returns each op's median time, in the order of step.ops.
  // Marks keep neighbouring ops from overlapping, so that the sum exceeds what run_step takes. Here: by the host's clock, with a sync
  // after each op. Results of the step are as after run_step.
  virtual std::vector<OpTime> time_ops(const Step& step, int32_t repetitions);

  // How run_step runs the step, with phases measured over `repetitions` runs where one kernel does it. Results are as after run_step.
  virtual StepForm step_form(const Step&, int32_t) { return {}; }
  // How decode steps of such a model will run, without running one. Here: nothing, as there is one way alone.
  virtual std::optional<DecodeForm> decode_form(const DecodeModel&) const { return std::nullopt; }

  // Measures norm_qkv against its parts run one after the other (backend/op_comparison.h). Here: UsageError, as there is no library
  // product to compare with.
  virtual NormQkvComparison compare_norm_qkv(const NormQkvShape& shape);

 protected:
  void run_op(const Op& op);  // calls the op's function
  // Runs op `index` of a step whose ops run in order.
  virtual void run_op_at(const Step& step, size_t index) { run_op(step.ops[index]); }
};

}  // namespace bolide
