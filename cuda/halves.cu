// halves: the inputs of the halves are made on the device from the step's, so that a captured step stays the same for any number of rows.
//
// In time, the halves lie side by side like this, the second beginning behind the first one's first attention:
//   first    QKV  ATTENTION  out gate_up down QKV  ATTENTION  out ...
//   second                   QKV  ATTENTION        out gate_up down QKV  ATTENTION ...
// A block of attention and one of a product, or two of attention, have room on a multiprocessor; what begins later keeps its distance by
// itself, since two attentions that meet slow each other down alike.
#include <algorithm>
#include <utility>
#include <vector>

#include "cuda/attention.h"
#include "cuda/device/launch.h"
#include "cuda/halves.h"
#include "cuda/product.h"
#include "cuda/step.h"

namespace bolide {
namespace {

constexpr int kHalves = 2, kThreads = 256;
constexpr CudaSite kSite{"step"};

// Where halves gain (measured on an H100, docs/performance.md).
constexpr int32_t kFewestRows = 33, kMostRows = 256;  // products of more rows have larger tiles, beside which no attention has room
// Elements of K, of all sequences, in a layer: with less to read, attention is shorter than the other half's products. Up to kFewRowsOfStep
// rows a half's products take nearly as long as all rows', so that there must be more to read.
constexpr int32_t kFewRowsOfStep = 64;
constexpr int64_t kLeastContext = int64_t{24} << 20, kLeastContextOfFew = int64_t{64} << 20;
// Of L2, that a layer's weights may take: the second half is to find them there.
constexpr double kMostOfL2 = 0.75;

int32_t rows_of(const StepCapacity& c) { return std::min({c.tokens, c.sequences, c.logit_rows}); }

StepCapacity half_of(StepCapacity capacity) {
  capacity.tokens = capacity.sequences = capacity.logit_rows = (rows_of(capacity) + 1) / kHalves;
  return capacity;
}

// The inputs of a step's halves, in scratch. The first half's arrays are the beginnings of the step's own.
struct HalvedInputs {
  StepCounts* counts;   // [kHalves]
  int32_t* logit_rows;  // [R] of the step: where the halves' rows lie
  StepInputs second;
};

// Fills `to`, if there is memory, and returns the bytes that a step of so many rows takes.
size_t place_inputs(void* memory, int32_t rows, HalvedInputs& to) {
  size_t bytes = 0;
  const auto place = [&](auto*& pointer, int32_t count) {
    if (memory) pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(static_cast<char*>(memory) + bytes);
    bytes += (static_cast<size_t>(count) * sizeof *pointer + 15) / 16 * 16;
  };
  place(to.counts, kHalves);
  place(to.logit_rows, rows);
  StepInputs& second = to.second;
  place(second.token_ids, rows);
  place(second.positions, rows);
  place(second.slots, rows);
  place(second.query_offsets, rows + 1);
  place(second.kv_lengths, rows);
  place(second.chunk_offsets, rows + 1);
  return bytes;
}

// The first half has as many rows as the second, or one more. second_row: where the second one's lie in the activation buffers.
__global__ void __launch_bounds__(kThreads) halve_kernel(StepInputs whole, HalvedInputs to, int32_t second_row) {
  const int rows = whole.counts->tokens, first = (rows + 1) / kHalves;
  if (threadIdx.x < kHalves) {
    const int own = threadIdx.x == 0 ? first : rows - first;
    to.counts[threadIdx.x] = {own, own, own};
  }
  for (int i = threadIdx.x; i <= rows; i += kThreads) {
    const int at = i - first;
    if (i < rows) to.logit_rows[i] = at < 0 ? i : second_row + at;
    if (at < 0) continue;
    to.second.query_offsets[at] = at;
    to.second.chunk_offsets[at] = whole.chunk_offsets[i];
    if (i == rows) continue;
    to.second.token_ids[at] = whole.token_ids[i];
    to.second.positions[at] = whole.positions[i];
    to.second.slots[at] = whole.slots[i];
    to.second.kv_lengths[at] = whole.kv_lengths[i];
  }
}

// An op of a half: other inputs, and buffers from `first_row` on. Logits and samples are the whole step's.
struct OpOfHalf {
  const StepInputs* in;
  int64_t first_row;

  float* shifted(float* rows, int64_t width) const { return rows + first_row * width; }
  const float* shifted(const float* rows, int64_t width) const { return rows + first_row * width; }
  ActivationBuffer shifted(const ActivationBuffer& rows, int64_t width) const {
    return {static_cast<char*>(rows.data) + first_row * width * static_cast<int64_t>(dtype_size(rows.dtype)), rows.dtype};
  }

  Op operator()(EmbedArgs a) const {
    a.in = in;
    a.x = shifted(a.x, a.hidden);
    a.rope = shifted(a.rope, a.head_dim);
    return a;
  }
  Op operator()(NormQkvArgs a) const {
    a.in = in;
    a.x = shifted(a.x, a.hidden);
    a.rope = shifted(a.rope, a.head_dim);
    a.q = shifted(a.q, int64_t{a.heads} * a.head_dim);
    return a;
  }
  Op operator()(AttentionArgs a) const {
    a.in = in;
    a.q = shifted(a.q, int64_t{a.heads} * a.head_dim);
    a.out = shifted(a.out, int64_t{a.heads} * a.head_dim);
    return a;
  }
  Op operator()(ProjectAddArgs a) const {
    const MatrixView weight = matrix_view(*a.weight);
    a.in = in;
    a.h = shifted(a.h, weight.columns);
    a.x = shifted(a.x, weight.rows);
    return a;
  }
  Op operator()(NormGateUpArgs a) const {
    a.in = in;
    a.x = shifted(a.x, a.hidden);
    a.out = shifted(a.out, a.mlp);
    return a;
  }
  Op operator()(const LogitsArgs& a) const { return a; }
  Op operator()(const SampleArgs& a) const { return a; }
};

bool is_attention(const Op& op) { return std::holds_alternative<AttentionArgs>(op); }
bool is_of_half(const Op& op) { return !std::holds_alternative<LogitsArgs>(op) && !std::holds_alternative<SampleArgs>(op); }

// The context in which a half's ops are enqueued: scratch memory is shared out.
CudaContext context_of_half(const CudaContext& context, StepPart part) {
  CudaContext own = context;
  own.part = part;
  own.capacity = half_of(context.capacity);
  if (part == StepPart::second_half) own.stream = context.halves.stream;
  const auto share = [&](auto*& pointer, size_t& bytes) {
    bytes = bytes / kHalves / 256 * 256;
    if (part == StepPart::second_half)
      pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(reinterpret_cast<char*>(pointer) + bytes);
  };
  CudaScratch& s = own.scratch;
  share(s.operand, s.operand_bytes);
  share(s.product, s.product_bytes);
  share(s.attention, s.attention_bytes);
  share(s.arrivals, s.arrivals_bytes);
  return own;
}

// Whether a half's op is kernels that leave room for the other half's, without cuBLASLt, whose workspace is the device's only one.
struct SuitsHalf {
  const CudaContext& context;  // of a half

  bool product_fits(const Matrix& weight, const StepInputs* in) const {
    const MatrixView view = matrix_view(weight);
    return tile_product_fits(context, operand_dtype(context.activations, view.dtype, false), view,
                             {context.capacity.tokens, &in->counts->tokens});
  }

  bool operator()(const EmbedArgs&) const { return true; }
  bool operator()(const NormQkvArgs& a) const {
    TileHeads heads{};
    heads.product.head_dim = a.head_dim;
    heads.kv = kv_view(*a.kv);
    return product_fits(*a.qkv, a.in) && a.q.dtype == DType::bf16 &&
           tile_heads_fit(context, DType::bf16, matrix_view(*a.qkv), {context.capacity.tokens, &a.in->counts->tokens}, heads);
  }
  bool operator()(const AttentionArgs& a) const { return attention_is_of_many(context, a); }
  bool operator()(const ProjectAddArgs& a) const { return project_makes_parts(context, a); }
  bool operator()(const NormGateUpArgs& a) const { return product_fits(*a.gate_up, a.in); }
  bool operator()(const LogitsArgs&) const { return true; }
  bool operator()(const SampleArgs&) const { return true; }
};

bool can_be_halved(const CudaContext& context, const Step& step) {
  const int32_t rows = rows_of(step.capacity);
  if (step.ops.empty() || !step.one_row_each || rows > kMostRows || (rows + 1) / kHalves <= kFewRows) return false;
  // Where rows lie is the step's own affair only if it makes them.
  if (!std::holds_alternative<EmbedArgs>(step.ops.front()) || std::none_of(step.ops.begin(), step.ops.end(), is_attention)) return false;
  CudaContext half = context;
  half.capacity = half_of(step.capacity);
  half.one_row_each = true;
  return std::all_of(step.ops.begin(), step.ops.end(), [&](const Op& op) { return std::visit(SuitsHalf{half}, op); });
}

// Of the weights of the first layer.
size_t layer_bytes(const Step& step) {
  size_t bytes = 0;
  for (const Op& op : step.ops) {
    const auto* qkv = std::get_if<NormQkvArgs>(&op);
    const auto* project = std::get_if<ProjectAddArgs>(&op);
    const auto* gate_up = std::get_if<NormGateUpArgs>(&op);
    const int32_t layer = qkv ? qkv->layer : project ? project->layer : gate_up ? gate_up->layer : 0;
    if (layer > 0) break;
    const Matrix* matrix = qkv ? qkv->qkv : project ? project->weight : gate_up ? gate_up->gate_up : nullptr;
    if (!matrix) continue;
    const MatrixView view = matrix_view(*matrix);
    bytes += static_cast<size_t>(view.rows * view.stride) * dtype_size(view.dtype);
  }
  return bytes;
}

bool gains_in_halves(const CudaContext& context, const Step& step) {
  const int32_t rows = rows_of(step.capacity);
  if (rows < kFewestRows) return false;
  const auto attention = std::find_if(step.ops.begin(), step.ops.end(), is_attention);
  if (attention == step.ops.end()) return false;
  const auto& args = std::get<AttentionArgs>(*attention);
  const int64_t least = rows <= kFewRowsOfStep ? kLeastContextOfFew : kLeastContext;
  return step.context_tokens * args.kv_heads * args.head_dim >= least &&
         static_cast<double>(layer_bytes(step)) <= kMostOfL2 * static_cast<double>(context.l2_bytes);
}

// Ops that wait for another stream: a kernel starts early beside the one kernel in front of it, and no other.
void enqueue_behind_event(CudaContext& context, std::vector<Op> ops) {
  if (ops.empty()) return;
  const bool dependent = std::exchange(context.dependent_launch, false);
  enqueue_ops(context, {ops.front()});
  context.dependent_launch = dependent;
  ops.erase(ops.begin());
  enqueue_ops(context, ops);
}

void record(cudaEvent_t event, cudaStream_t stream) { check_cuda(cudaEventRecord(event, stream), "event", kSite); }
void wait_for(cudaEvent_t event, cudaStream_t stream) { check_cuda(cudaStreamWaitEvent(stream, event), "wait for an event", kSite); }

std::vector<Op> ops_of_half(const Step& step, const StepInputs& in, int32_t first_row) {
  std::vector<Op> ops;
  for (const Op& op : step.ops)
    if (is_of_half(op)) ops.push_back(std::visit(OpOfHalf{&in, first_row}, op));
  return ops;
}

}  // namespace

size_t halves_scratch(const StepCapacity& capacity) {
  HalvedInputs none{};
  return place_inputs(nullptr, rows_of(capacity), none);
}

bool runs_in_halves(const CudaContext& context, const Step& step) {
  if (context.halves.wanted == Halving::none) return false;
  if (context.halves.wanted == Halving::those_that_gain && !gains_in_halves(context, step)) return false;
  return can_be_halved(context, step);
}

void enqueue_halves(CudaContext& context, const Step& step) {
  const StepInputs& whole = *std::visit([](const auto& args) { return args.in; }, step.ops.front());
  HalvedInputs halved{};
  require_contract(place_inputs(context.scratch.halves, rows_of(context.capacity), halved) <= context.scratch.halves_bytes,
                   "reserve() was not called for this many rows", kSite);
  halved.second.chunk_ids = whole.chunk_ids;
  StepInputs first = whole, second = halved.second;
  first.counts = halved.counts;
  second.counts = halved.counts + 1;
  const int32_t second_row = half_of(context.capacity).tokens;
  launch(kSite, halve_kernel, dim3(1), dim3(kThreads), 0, context.stream, whole, halved, second_row);

  CudaContext one = context_of_half(context, StepPart::first_half), other = context_of_half(context, StepPart::second_half);
  const std::vector<Op> ops = ops_of_half(step, first, 0);
  const auto behind = std::find_if(ops.begin(), ops.end(), is_attention) + 1;
  enqueue_ops(one, {ops.begin(), behind});
  record(context.halves.fork, context.stream);
  enqueue_behind_event(one, {behind, ops.end()});
  wait_for(context.halves.fork, context.halves.stream);
  enqueue_behind_event(other, ops_of_half(step, second, second_row));
  record(context.halves.join, context.halves.stream);

  wait_for(context.halves.join, context.stream);
  StepInputs in = whole;
  in.logit_rows = halved.logit_rows;
  std::vector<Op> last;
  for (const Op& op : step.ops) {
    if (is_of_half(op)) continue;
    last.push_back(op);
    if (auto* logits = std::get_if<LogitsArgs>(&last.back())) logits->in = &in;
  }
  enqueue_behind_event(context, last);
}

}  // namespace bolide
