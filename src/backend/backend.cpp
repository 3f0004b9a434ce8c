#include "backend/backend.h"

namespace bolide {
namespace {

struct Dispatch {
  Backend& backend;
  void operator()(const EmbedArgs& a) const { backend.embed(a); }
  void operator()(const NormQkvArgs& a) const { backend.norm_qkv(a); }
  void operator()(const AttentionArgs& a) const { backend.attention(a); }
  void operator()(const ProjectAddArgs& a) const { backend.project_add(a); }
  void operator()(const NormGateUpArgs& a) const { backend.norm_gate_up(a); }
  void operator()(const LogitsArgs& a) const { backend.logits(a); }
  void operator()(const SampleArgs& a) const { backend.sample(a); }
};

}  // namespace

void Backend::run_step(const Step& step) {
  for (const Op& op : step.ops) run_op(op);
}

void Backend::run_op(const Op& op) { std::visit(Dispatch{*this}, op); }

}  // namespace bolide
