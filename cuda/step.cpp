#include "cuda/step.h"

#include <utility>

#include "cuda/decode/decode_step.h"
#include "cuda/halves.h"
#include "cuda/product.h"

namespace bolide {
namespace {

void run(CudaContext& context, const Op& op, const PendingSum& owed) {
  struct Visitor {
    CudaContext& context;
    const PendingSum& owed;
    void operator()(const EmbedArgs& a) const { cuda_embed(context, a); }
    void operator()(const NormQkvArgs& a) const { cuda_norm_qkv(context, a, owed); }
    void operator()(const AttentionArgs& a) const { cuda_attention(context, a); }
    void operator()(const ProjectAddArgs& a) const { cuda_project_add(context, a); }
    void operator()(const NormGateUpArgs& a) const { cuda_norm_gate_up(context, a, owed); }
    void operator()(const LogitsArgs& a) const { cuda_logits(context, a); }
    void operator()(const SampleArgs& a) const { cuda_sample(context, a); }
  };
  std::visit(Visitor{context, owed}, op);
}

// Whether the op's norm can add what a product in front owes to x.
bool settles(const CudaContext& context, const Op& op, const float* x) {
  const auto takes = [&](const auto* norm, const Matrix* weight) {
    return norm && norm->x == x && norm_settles(context, norm->hidden, matrix_view(*weight), {context.capacity.tokens, nullptr});
  };
  const auto* qkv = std::get_if<NormQkvArgs>(&op);
  const auto* gate_up = std::get_if<NormGateUpArgs>(&op);
  return takes(qkv, qkv ? qkv->qkv : nullptr) || takes(gate_up, gate_up ? gate_up->gate_up : nullptr);
}

}  // namespace

void enqueue_step(CudaContext& context, const Step& step) {
  if (context.decode && context.decode->enqueue(context, step)) return;
  runs_in_halves(context, step) ? enqueue_halves(context, step) : enqueue_ops(context, step.ops);
}

void enqueue_ops(CudaContext& context, const std::vector<Op>& ops) {
  PendingSum pending;  // of the op in front
  for (size_t i = 0; i < ops.size(); ++i) {
    const PendingSum owed = std::exchange(pending, {});
    const auto* project = std::get_if<ProjectAddArgs>(&ops[i]);
    if (project && i + 1 < ops.size() && project_makes_parts(context, *project) && settles(context, ops[i + 1], project->x)) {
      pending = cuda_project_parts(context, *project);
      continue;
    }
    const auto* qkv = std::get_if<NormQkvArgs>(&ops[i]);
    const auto* attention = i + 1 < ops.size() ? std::get_if<AttentionArgs>(&ops[i + 1]) : nullptr;
    if (qkv && attention && attention->layer == qkv->layer && attention->kv == qkv->kv && attention_takes_product(context, *attention)) {
      cuda_attention(context, *attention, cuda_qkv_product(context, *qkv));
      ++i;
    } else {
      run(context, ops[i], owed);
    }
  }
}

}  // namespace bolide
