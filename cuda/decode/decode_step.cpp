#include "cuda/decode/decode_step.h"

#include <algorithm>
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
    layer.matrices[0] = weights(qkv.qkv);
    layer.matrices[1] = weights(output.weight);
    layer.matrices[2] = weights(gate_up.gate_up);
    layer.matrices[3] = weights(down.weight);
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

const CompiledShape* find_shape(const std::vector<CompiledShape>& shapes, const ModelDims& dims) {
  for (const CompiledShape& shape : shapes) {
    if (shape.hidden == dims.hidden && shape.queries == dims.heads * dims.head_dim && shape.mlp == dims.mlp && shape.heads == dims.heads &&
        shape.kv_heads == dims.kv_heads && shape.head_dim == dims.head_dim)
      return &shape;
  }
  return nullptr;
}

auto launch_for(const CompiledShape& shape, int32_t rows) {
  const int of = decode::rows_of_kernel(rows);
  return of == 1 ? shape.launch : of == decode::kFewerRows ? shape.launch_few : shape.launch_rows;
}

const NormQkvArgs& first_qkv(const Step& step) { return std::get<NormQkvArgs>(step.ops[1]); }
const NormGateUpArgs& first_gate_up(const Step& step) { return std::get<NormGateUpArgs>(step.ops[4]); }

ModelDims dims_of(const Step& step, const Pattern& pattern) {
  const NormQkvArgs& qkv = first_qkv(step);
  ModelDims dims;
  dims.hidden = qkv.hidden;
  dims.mlp = first_gate_up(step).mlp;
  dims.layers = static_cast<int32_t>(pattern.layers);
  dims.heads = qkv.heads;
  dims.kv_heads = qkv.kv_heads;
  dims.head_dim = qkv.head_dim;
  dims.vocab = pattern.sample->vocab;
  return dims;
}

// bf16 where all matrices are that and have no gaps.
std::optional<DType> weights_dtype(const Step& step, const Pattern& pattern) {
  bool plain = plain_bf16(pattern.embed->table) && plain_bf16(pattern.logits->head);
  for (size_t i = 0; i < pattern.layers && plain; ++i) {
    const size_t first = 1 + 5 * i;
    plain = plain_bf16(std::get<NormQkvArgs>(step.ops[first]).qkv) && plain_bf16(std::get<ProjectAddArgs>(step.ops[first + 2]).weight) &&
            plain_bf16(std::get<NormGateUpArgs>(step.ops[first + 3]).gate_up) &&
            plain_bf16(std::get<ProjectAddArgs>(step.ops[first + 4]).weight);
  }
  return plain ? std::optional(DType::bf16) : std::nullopt;
}

DecodeModel model_of(const Step& step, const Pattern& pattern) {
  const KvView kv = kv_view(*first_qkv(step).kv);
  DecodeModel model;
  model.dims = dims_of(step, pattern);
  model.weights = weights_dtype(step, pattern);
  model.kv = kv.dtype;
  model.chunk_tokens = kv.chunk_tokens;
  model.chunks = kv.chunks;
  // Of this run where that is known: a pool for many sequences holds more than any one of them has.
  model.longest = step.longest_sequence > 0 ? step.longest_sequence : int64_t{step.capacity.chunk_ids} * kv.chunk_tokens;
  return model;
}

std::string why_not_device(const CudaContext& context) {
  if (context.compute_capability != 90 || !compiled_architectures().holds("sm_90a"))
    return "needs compute capability 9.0 and code compiled for sm_90a";
  if (context.multiprocessors < decode::kBlocks) return fmt::format("needs {} multiprocessors", decode::kBlocks);
  return {};
}

// Empty when such a model's steps of so many sequences (at most kMaxRows) fit.
std::string why_not_model(const std::vector<CompiledShape>& shapes, const CudaContext& context, const DecodeModel& model, int32_t rows) {
  if (std::string obstacle = why_not_device(context); !obstacle.empty()) return obstacle;
  if (context.activations != DType::bf16) return "takes bfloat16 activations";
  const ModelDims& dims = model.dims;
  if (dims.layers > decode::kMaxLayers) return fmt::format("takes at most {} layers", decode::kMaxLayers);
  const CompiledShape* shape = find_shape(shapes, dims);
  if (!shape)
    return fmt::format("is not compiled for hidden {}, {} query and {} key/value heads of {}, MLP {}", dims.hidden, dims.heads,
                       dims.kv_heads, dims.head_dim, dims.mlp);
  if (dims.vocab % 8 != 0) return fmt::format("takes a vocabulary of a multiple of 8, not {}", dims.vocab);
  if (model.kv != DType::bf16) return "takes a bfloat16 KV cache";
  if (model.chunk_tokens % shape->positions != 0) return fmt::format("takes KV chunks of a multiple of {} tokens", shape->positions);
  const int kernel_rows = decode::rows_of_kernel(rows);
  const int64_t blocks = decode::max_own_blocks(kernel_rows, shape->goes_on) / kernel_rows - 1;
  const int64_t most = blocks * shape->head_blocks * shape->positions;
  if (model.longest > most)
    return fmt::format("takes contexts of at most {} tokens{}", most,
                       rows > decode::kFewerRows    ? fmt::format(" in more than {} rows", decode::kFewerRows)
                       : rows > 1 && shape->goes_on ? " in more than 1 row"
                                                    : "");
  if (int64_t{model.chunks} * dims.kv_heads * 2 * model.chunk_tokens / shape->positions > INT32_MAX) return "takes smaller KV caches";
  if (model.weights != DType::bf16) return "takes bfloat16 weights";
  return {};
}

// Of the edges' words.
constexpr size_t words_of(bool several) { return several ? decode::kMostRowsWords : decode::kMostWords; }
constexpr size_t buffer_bytes(bool several) { return words_of(several) * sizeof(uint64_t) + 256; }

}  // namespace

size_t DecodeSteps::memory_bytes() { return buffer_bytes(false) + buffer_bytes(true); }

std::string DecodeSteps::why_not(const CudaContext& context, const Step& step) const {
  if (std::string obstacle = why_not_device(context); !obstacle.empty()) return obstacle;
  const int32_t rows = step.capacity.tokens;
  if (rows > decode::kMaxRows) return fmt::format("takes at most {} rows", decode::kMaxRows);
  if (rows > 1 && !step.one_row_each) return "takes one row of a sequence, and its token with it";
  const Pattern pattern(step);
  if (!pattern.complete) return "the step's ops are not those of a forward pass";
  const float eps = first_qkv(step).norm_eps;
  if (first_gate_up(step).norm_eps != eps || pattern.logits->norm_eps != eps) return "takes one epsilon for all norms";
  return why_not_model(shapes_, context, model_of(step, pattern), rows);
}

DecodeForm DecodeSteps::form(const CudaContext& context, const DecodeModel& model) {
  int32_t fitting = 0;
  for (const int32_t rows : {1, decode::kFewerRows, decode::kMaxRows}) {
    if (std::string obstacle = why_not_model(decode::compiled_shapes(), context, model, rows); !obstacle.empty())
      return {fitting, std::move(obstacle)};
    fitting = rows;
  }
  return {decode::kMaxRows, fmt::format("takes at most {} rows", decode::kMaxRows)};
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

void DecodeSteps::forget_edges(CudaContext& context) {
  for (const bool several : {false, true}) {
    if (words_[several])
      check_cuda(cudaMemsetAsync(words_[several]->data(), 0, buffer_bytes(several), context.stream), "memset", {"decode"});
  }
}

bool DecodeSteps::goes_on(const CudaContext& context, const Step& step) const {
  if (!step.plain_sampling || !step.one_row_each || !why_not(context, step).empty()) return false;
  const ModelDims dims = dims_of(step, Pattern(step));
  const CompiledShape& shape = *find_shape(shapes_, dims);
  return shape.goes_on && shape.layer_stages * dims.layers > decode::kMostStages;  // see Producer::await_workers
}

DecodeLaunch DecodeSteps::launch_of(CudaContext& context, const Step& step) {
  const Pattern pattern(step);
  const NormQkvArgs& qkv = first_qkv(step);
  const CompiledShape& shape = *find_shape(shapes_, dims_of(step, pattern));
  const bool several = step.capacity.tokens > 1;
  std::unique_ptr<CudaBuffer>& buffer = words_[several];
  if (!buffer) {
    buffer = std::make_unique<CudaBuffer>(buffer_bytes(several), device_, "the decode kernel");
    check_cuda(cudaMemsetAsync(buffer->data(), 0, buffer_bytes(several), context.stream), "memset", {"decode"});
  }
  DecodeLaunch made{};
  decode::Parameters& p = made.parameters;
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
  // context.copy_pace is that of copies by all multiprocessors. In the layers a little faster served best, in the head, where nothing waits
  // for other blocks, as fast as memory goes (measured on an H100, docs/performance.md).
  const auto pace = [&](int percent) { return context.copy_pace * 2 * decode::kBlocks * percent / (100 * context.multiprocessors); };
  p.pace = pace(98);
  p.head_pace = pace(90);
  made.launch = launch_for(shape, step.capacity.tokens);
  made.rows = std::min(step.capacity.tokens, step.capacity.logit_rows);
  return made;
}

bool DecodeSteps::enqueue(CudaContext& context, const Step& step, long long* clocks) {
  if (!why_not(context, step).empty()) return false;
  DecodeLaunch made = launch_of(context, step);
  made.parameters.clocks = clocks;
  made.launch(made.parameters, context.stream);
  if (!made.parameters.alone) cuda_sample(context, std::get<SampleArgs>(step.ops.back()), made.parameters.drawn);
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
