#include "cuda/decode/decode_step.h"

#include <cstring>

#include "core/error.h"
#include "cuda/architectures.h"

namespace bolide {
namespace {

using decode::CompiledShape;
using decode::Layer;

template <class Args>
const Args* op_at(const Step& step, size_t i) {
  return i < step.ops.size() ? std::get_if<Args>(&step.ops[i]) : nullptr;
}

// The ops of a step in the order that the forward pass has, or null pointers.
struct Pattern {
  const EmbedArgs* embed = nullptr;
  const LogitsArgs* logits = nullptr;
  const SampleArgs* sample = nullptr;
  size_t layers = 0;
  bool complete = false;

  explicit Pattern(const Step& step) {
    if (step.ops.size() < 8 || (step.ops.size() - 3) % 5 != 0) return;
    layers = (step.ops.size() - 3) / 5;
    embed = op_at<EmbedArgs>(step, 0);
    logits = op_at<LogitsArgs>(step, step.ops.size() - 2);
    sample = op_at<SampleArgs>(step, step.ops.size() - 1);
    complete = embed && logits && sample;
    for (size_t i = 0; i < layers && complete; ++i) {
      const size_t first = 1 + 5 * i;
      complete = op_at<NormQkvArgs>(step, first) && op_at<AttentionArgs>(step, first + 1) && op_at<ProjectAddArgs>(step, first + 2) &&
                 op_at<NormGateUpArgs>(step, first + 3) && op_at<ProjectAddArgs>(step, first + 4);
    }
  }
};

bool plain_bf16(const Matrix* matrix) {
  const MatrixView view = matrix_view(*matrix);
  return view.dtype == DType::bf16 && view.stride == view.columns;
}

const __nv_bfloat16* weights(const Matrix* matrix) { return static_cast<const __nv_bfloat16*>(matrix_view(*matrix).data); }

std::vector<Layer> layer_table(const Step& step, const Pattern& pattern) {
  std::vector<Layer> table(pattern.layers);
  for (size_t i = 0; i < pattern.layers; ++i) {
    const size_t first = 1 + 5 * i;
    const auto& qkv = std::get<NormQkvArgs>(step.ops[first]);
    const auto& attention = std::get<AttentionArgs>(step.ops[first + 1]);
    const auto& output = std::get<ProjectAddArgs>(step.ops[first + 2]);
    const auto& gate_up = std::get<NormGateUpArgs>(step.ops[first + 3]);
    const auto& down = std::get<ProjectAddArgs>(step.ops[first + 4]);
    Layer& layer = table[i];
    layer.qkv = weights(qkv.qkv);
    layer.output = weights(output.weight);
    layer.gate_up = weights(gate_up.gate_up);
    layer.down = weights(down.weight);
    layer.input_norm = qkv.norm;
    layer.post_norm = gate_up.norm;
    layer.q_norm = qkv.q_norm;
    layer.k_norm = qkv.k_norm;
    layer.qkv_bias = qkv.bias;
    layer.output_bias = output.bias;
    layer.gate_up_bias = gate_up.bias;
    layer.down_bias = down.bias;
    layer.next_norm = i + 1 < pattern.layers ? std::get<NormQkvArgs>(step.ops[first + 5]).norm : pattern.logits->norm;
    layer.window = attention.window;
  }
  return table;
}

const CompiledShape* find_shape(const NormQkvArgs& qkv, const NormGateUpArgs& gate_up) {
  for (const CompiledShape& shape : decode::compiled_shapes()) {
    if (shape.hidden == qkv.hidden && shape.queries == qkv.heads * qkv.head_dim && shape.mlp == gate_up.mlp && shape.heads == qkv.heads &&
        shape.kv_heads == qkv.kv_heads && shape.head_dim == qkv.head_dim)
      return &shape;
  }
  return nullptr;
}

const NormQkvArgs& first_qkv(const Step& step) { return std::get<NormQkvArgs>(step.ops[1]); }
const NormGateUpArgs& first_gate_up(const Step& step) { return std::get<NormGateUpArgs>(step.ops[4]); }

// Edges' words: of one row, and what the kernel for several needs beside it.
constexpr size_t kMaxWords = size_t{1} << 16;
constexpr size_t words_of(bool several) { return kMaxWords * (several ? decode::kMaxRows : 1); }
constexpr size_t buffer_bytes(bool several) { return words_of(several) * sizeof(uint64_t) + 256; }

}  // namespace

size_t DecodeSteps::memory_bytes() { return buffer_bytes(false) + buffer_bytes(true); }

std::string DecodeSteps::why_not(const CudaContext& context, const Step& step) const {
  if (context.compute_capability != 90 || !compiled_architectures().holds("sm_90a"))
    return "needs compute capability 9.0 and code compiled for sm_90a";
  if (context.multiprocessors < decode::kBlocks) return fmt::format("needs {} multiprocessors", decode::kBlocks);
  const bool several = step.capacity.tokens > 1;
  if (step.capacity.tokens > decode::kMaxRows) return fmt::format("takes at most {} rows", decode::kMaxRows);
  if (several && !step.one_row_each) return "takes one row of a sequence, and its token with it";
  if (context.activations != DType::bf16) return "takes bfloat16 activations";
  const Pattern pattern(step);
  if (!pattern.complete) return "the step's ops are not those of a forward pass";
  if (pattern.layers > decode::kMaxLayers) return fmt::format("takes at most {} layers", decode::kMaxLayers);
  const NormQkvArgs& qkv = first_qkv(step);
  const NormGateUpArgs& gate_up = first_gate_up(step);
  const CompiledShape* shape = find_shape(qkv, gate_up);
  if (!shape)
    return fmt::format("is not compiled for hidden {}, {} query and {} key/value heads of {}, MLP {}", qkv.hidden, qkv.heads, qkv.kv_heads,
                       qkv.head_dim, gate_up.mlp);
  if (several && !shape->launch_rows) return "takes one row of this shape";
  if (pattern.sample->vocab % 8 != 0) return fmt::format("takes a vocabulary of a multiple of 8, not {}", pattern.sample->vocab);
  if (gate_up.norm_eps != qkv.norm_eps || pattern.logits->norm_eps != qkv.norm_eps) return "takes one epsilon for all norms";
  const KvView kv = kv_view(*qkv.kv);
  if (kv.dtype != DType::bf16) return "takes a bfloat16 KV cache";
  if (kv.chunk_tokens % shape->positions != 0) return fmt::format("takes KV chunks of a multiple of {} tokens", shape->positions);
  // Of this run where that is known: a pool for many sequences holds more than any one of them has.
  const int64_t longest = step.longest_sequence > 0 ? step.longest_sequence : int64_t{step.capacity.chunk_ids} * kv.chunk_tokens;
  const int64_t blocks = decode::max_own_blocks(step.capacity.tokens) / (several ? decode::kMaxRows : 1) - 1;
  if (longest > blocks * decode::kGroupBlocks * shape->positions) return "the context is too long";
  if (int64_t{kv.chunks} * kv.kv_heads * 2 * kv.chunk_tokens / shape->positions > INT32_MAX) return "the KV cache is too large";
  if (!plain_bf16(pattern.embed->table) || !plain_bf16(pattern.logits->head)) return "takes bfloat16 weights";
  for (size_t i = 0; i < pattern.layers; ++i) {
    const size_t first = 1 + 5 * i;
    if (!plain_bf16(std::get<NormQkvArgs>(step.ops[first]).qkv) || !plain_bf16(std::get<ProjectAddArgs>(step.ops[first + 2]).weight) ||
        !plain_bf16(std::get<NormGateUpArgs>(step.ops[first + 3]).gate_up) ||
        !plain_bf16(std::get<ProjectAddArgs>(step.ops[first + 4]).weight))
      return "takes bfloat16 weights";
  }
  return {};
}

const Layer* DecodeSteps::table(CudaContext& context, const std::vector<Layer>& layers) {
  const size_t bytes = layers.size() * sizeof(Layer);
  for (const Table& known : tables_) {
    if (known.layers.size() == layers.size() && std::memcmp(known.layers.data(), layers.data(), bytes) == 0)
      return static_cast<const Layer*>(known.memory->data());
  }
  Table& made = tables_.emplace_back();
  made.layers = layers;
  made.memory = std::make_unique<CudaBuffer>(bytes, device_, "the decode kernel");
  check_cuda(cudaMemcpyAsync(made.memory->data(), layers.data(), bytes, cudaMemcpyHostToDevice, context.stream), "upload", {"decode"});
  check_cuda(cudaStreamSynchronize(context.stream), "upload", {"decode"});
  return static_cast<const Layer*>(made.memory->data());
}

bool DecodeSteps::enqueue(CudaContext& context, const Step& step, long long* clocks) {
  if (!why_not(context, step).empty()) return false;
  const Pattern pattern(step);
  const NormQkvArgs& qkv = first_qkv(step);
  const CompiledShape& shape = *find_shape(qkv, first_gate_up(step));
  require_contract(static_cast<size_t>(shape.words) <= kMaxWords, "the shape's words do not fit their buffer", {"decode"});
  const bool several = step.capacity.tokens > 1;
  std::unique_ptr<CudaBuffer>& buffer = words_[several];
  if (!buffer) {
    buffer = std::make_unique<CudaBuffer>(buffer_bytes(several), device_, "the decode kernel");
    check_cuda(cudaMemsetAsync(buffer->data(), 0, buffer_bytes(several), context.stream), "memset", {"decode"});
  }
  decode::Parameters p{};
  p.in = *qkv.in;
  p.layers = table(context, layer_table(step, pattern));
  p.layer_count = static_cast<int32_t>(pattern.layers);
  p.table = weights(pattern.embed->table);
  p.head = weights(pattern.logits->head);
  p.previous = pattern.embed->previous;
  p.inverse_frequencies = pattern.embed->inverse_frequencies;
  p.embed_scale = pattern.embed->scale;
  p.norm_eps = qkv.norm_eps;
  p.softmax_scale = std::get<AttentionArgs>(step.ops[2]).scale;
  p.activation = first_gate_up(step).activation;
  p.vocab = pattern.sample->vocab;
  p.logits = pattern.logits->logits;
  p.out = pattern.sample->out;
  p.kv = kv_view(*qkv.kv);
  p.words = static_cast<uint64_t*>(buffer->data());
  p.epoch = reinterpret_cast<uint32_t*>(p.words + words_of(several));
  p.alone = step.plain_sampling;
  p.drawn = reinterpret_cast<int32_t*>(p.epoch + 1);
  p.fault = context.fault;
  p.clocks = clocks;
  // context.copy_pace is that of copies by all multiprocessors. In the layers a little faster served best, in the head, where nothing waits
  // for other blocks, as fast as memory goes (measured on an H100, docs/performance.md).
  const auto pace = [&](int percent) { return context.copy_pace * 2 * decode::kBlocks * percent / (100 * context.multiprocessors); };
  p.pace = pace(98);
  p.head_pace = pace(90);
  (several ? shape.launch_rows : shape.launch)(p, context.stream);
  if (!p.alone) cuda_sample(context, *pattern.sample, p.drawn);
  return true;
}

std::vector<PhaseTime> DecodeSteps::phases(CudaContext& context, const Step& step, int32_t repetitions) {
  using namespace decode;
  CudaBuffer clocks(kAllClocks * sizeof(long long), device_, "clocks");
  check_cuda(cudaMemsetAsync(clocks.data(), 0, kAllClocks * sizeof(long long), context.stream), "memset", {"profile"});
  for (int32_t i = 0; i < repetitions; ++i) enqueue(context, step, static_cast<long long*>(clocks.data()));
  std::vector<long long> all(kAllClocks);
  check_cuda(cudaMemcpyAsync(all.data(), clocks.data(), all.size() * sizeof(long long), cudaMemcpyDeviceToHost, context.stream), "download",
             {"profile"});
  check_cuda(cudaStreamSynchronize(context.stream), "cudaStreamSynchronize", {"profile"});
  const auto nanoseconds = static_cast<double>(all[kBlocks * kBlockClocks]), ticks = static_cast<double>(all[kBlocks * kBlockClocks + 1]);
  const double scale = 1e-9 * nanoseconds / (ticks * kBlocks * repetitions);
  std::vector<PhaseTime> phases;
  for (int phase = 0; phase < kPhases; ++phase) {
    double sums[kParts] = {};
    for (int block = 0; block < kBlocks; ++block)
      for (int part = 0; part < kParts; ++part)
        sums[part] += scale * static_cast<double>(all[static_cast<size_t>(block * kBlockClocks + phase * kParts + part)]);
    phases.push_back({kPhaseNames[phase], sums[waiting], sums[loading], sums[computing]});
  }
  return phases;
}

}  // namespace bolide
