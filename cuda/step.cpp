#include "cuda/step.h"

#include "cuda/decode/decode_step.h"

namespace bolide {
namespace {

void run(CudaContext& context, const Op& op) {
  struct Visitor {
    CudaContext& context;
    void operator()(const EmbedArgs& a) const { cuda_embed(context, a); }
    void operator()(const NormQkvArgs& a) const { cuda_norm_qkv(context, a); }
    void operator()(const AttentionArgs& a) const { cuda_attention(context, a); }
    void operator()(const ProjectAddArgs& a) const { cuda_project_add(context, a); }
    void operator()(const NormGateUpArgs& a) const { cuda_norm_gate_up(context, a); }
    void operator()(const LogitsArgs& a) const { cuda_logits(context, a); }
    void operator()(const SampleArgs& a) const { cuda_sample(context, a); }
  };
  std::visit(Visitor{context}, op);
}

}  // namespace

void enqueue_step(CudaContext& context, const Step& step) {
  if (context.decode && context.decode->enqueue(context, step)) return;
  for (size_t i = 0; i < step.ops.size(); ++i) {
    const auto* qkv = std::get_if<NormQkvArgs>(&step.ops[i]);
    const auto* attention = i + 1 < step.ops.size() ? std::get_if<AttentionArgs>(&step.ops[i + 1]) : nullptr;
    if (qkv && attention && attention->layer == qkv->layer && attention->kv == qkv->kv && attention_takes_product(context, *attention)) {
      cuda_attention(context, *attention, cuda_qkv_product(context, *qkv));
      ++i;
    } else {
      run(context, step.ops[i]);
    }
  }
}

}  // namespace bolide
