#include "exec/decoder.h"

#include <cmath>
#include <initializer_list>

#include "core/error.h"

namespace bolide {
namespace {

// Prepares one layer's tensors (or the model's outer ones) on the backend.
class Preparer {
 public:
  Preparer(Backend& backend, PreparedModel& model) : backend_(backend), model_(model) {}

  std::unique_ptr<Matrix> matrix(std::initializer_list<const TensorView*> parts) {
    std::vector<TensorView> views;
    bool mixed = false;
    for (const TensorView* part : parts) {
      BOLIDE_CHECK(part->data != nullptr);
      views.push_back(*part);
      mixed = mixed || part->dtype != views.front().dtype;
    }
    if (mixed) {
      for (TensorView& view : views) view = widen(view);
    }
    return backend_.prepare(views);
  }

  std::unique_ptr<Buffer> vector(std::initializer_list<const TensorView*> parts, float offset = 0.0f) {
    std::vector<TensorView> views;
    for (const TensorView* part : parts) {
      BOLIDE_CHECK(part->data != nullptr);
      views.push_back(*part);
    }
    return backend_.prepare_vector(views, offset);
  }

  // Null when the tensors are absent; they are all there or none is.
  std::unique_ptr<Buffer> optional_vector(std::initializer_list<const TensorView*> parts, float offset = 0.0f) {
    return (*parts.begin())->data == nullptr ? nullptr : vector(parts, offset);
  }

 private:
  TensorView widen(const TensorView& view) {
    if (view.dtype == DType::f32) return view;
    const auto n = static_cast<size_t>(view.elements());
    auto wide = std::make_unique<float[]>(n);
    for (size_t i = 0; i < n; ++i) wide[i] = load_element(view.data, view.dtype, i);
    const TensorView out{wide.get(), DType::f32, view.shape};
    model_.widened.push_back(std::move(wide));
    return out;
  }

  Backend& backend_;
  PreparedModel& model_;
};

const float* floats(const std::unique_ptr<Buffer>& buffer) { return buffer ? static_cast<const float*>(buffer->data()) : nullptr; }

NormQkvArgs norm_qkv_args(const ModelConfig& config, const PreparedLayer& layer, const Activations& act, const StepInputs* in, KvCache* kv,
                          int index) {
  NormQkvArgs args{};
  args.in = in;
  args.x = act.x;
  args.norm = floats(layer.input_norm);
  args.norm_eps = config.norm_eps;
  args.qkv = layer.qkv.get();
  args.bias = floats(layer.qkv_bias);
  args.q_norm = floats(layer.q_norm);
  args.k_norm = floats(layer.k_norm);
  args.rope = act.rope;
  args.q = act.q;
  args.kv = kv;
  args.layer = index;
  args.hidden = config.hidden;
  args.heads = config.heads;
  args.kv_heads = config.kv_heads;
  args.head_dim = config.head_dim;
  return args;
}

AttentionArgs attention_args(const ModelConfig& config, const Activations& act, const StepInputs* in, const KvCache* kv, int index) {
  AttentionArgs args{};
  args.in = in;
  args.q = act.q;
  args.kv = kv;
  args.out = act.attn;
  args.scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim));
  args.window = config.windows.empty() ? 0 : config.windows.at(static_cast<size_t>(index));
  args.layer = index;
  args.heads = config.heads;
  args.kv_heads = config.kv_heads;
  args.head_dim = config.head_dim;
  return args;
}

NormGateUpArgs norm_gate_up_args(const ModelConfig& config, const PreparedLayer& layer, const Activations& act, const StepInputs* in,
                                 int index) {
  NormGateUpArgs args{};
  args.in = in;
  args.x = act.x;
  args.norm = floats(layer.post_norm);
  args.norm_eps = config.norm_eps;
  args.gate_up = layer.gate_up.get();
  args.bias = floats(layer.gate_up_bias);
  args.activation = config.activation;
  args.out = act.ff;
  args.layer = index;
  args.hidden = config.hidden;
  args.mlp = config.mlp;
  return args;
}

}  // namespace

PreparedModel prepare_model(Backend& backend, const ModelConfig& config, const ModelWeights& weights) {
  BOLIDE_CHECK(weights.layers.size() == static_cast<size_t>(config.layers));
  PreparedModel model;
  Preparer prepare(backend, model);
  model.embed = prepare.matrix({&weights.embed});
  if (!config.tied_head) model.own_head = prepare.matrix({&weights.head});
  model.head = config.tied_head ? model.embed.get() : model.own_head.get();
  model.final_norm = prepare.vector({&weights.final_norm}, config.norm_offset);
  const std::vector<float> frequencies = rope_inverse_frequencies(config.rope, config.head_dim);
  const TensorView view{frequencies.data(), DType::f32, {static_cast<int64_t>(frequencies.size())}};
  model.inverse_frequencies = prepare.vector({&view});
  for (const LayerWeights& from : weights.layers) {
    PreparedLayer& layer = model.layers.emplace_back();
    layer.input_norm = prepare.vector({&from.input_norm}, config.norm_offset);
    layer.qkv = prepare.matrix({&from.q.weight, &from.k.weight, &from.v.weight});
    layer.qkv_bias = prepare.optional_vector({&from.q.bias, &from.k.bias, &from.v.bias});
    layer.q_norm = prepare.optional_vector({&from.q_norm}, config.norm_offset);
    layer.k_norm = prepare.optional_vector({&from.k_norm}, config.norm_offset);
    layer.o = prepare.matrix({&from.o.weight});
    layer.o_bias = prepare.optional_vector({&from.o.bias});
    layer.post_norm = prepare.vector({&from.post_norm}, config.norm_offset);
    layer.gate_up = prepare.matrix({&from.gate.weight, &from.up.weight});
    layer.gate_up_bias = prepare.optional_vector({&from.gate.bias, &from.up.bias});
    layer.down = prepare.matrix({&from.down.weight});
    layer.down_bias = prepare.optional_vector({&from.down.bias});
  }
  return model;
}

Step build_step(const ModelConfig& config, const PreparedModel& model, const Activations& act, const StepInputs* inputs, KvCache* kv,
                const StepCapacity& capacity) {
  Step step;
  step.capacity = capacity;
  step.kv = kv;
  step.ops.reserve(model.layers.size() * 5 + 3);
  step.ops.push_back(EmbedArgs{inputs, model.embed.get(), config.embed_scale, floats(model.inverse_frequencies), act.x, act.rope,
                               config.hidden, config.head_dim, act.previous});
  int index = 0;
  for (const PreparedLayer& layer : model.layers) {
    step.ops.push_back(norm_qkv_args(config, layer, act, inputs, kv, index));
    step.ops.push_back(attention_args(config, act, inputs, kv, index));
    step.ops.push_back(ProjectAddArgs{inputs, act.attn, layer.o.get(), floats(layer.o_bias), act.x, index});
    step.ops.push_back(norm_gate_up_args(config, layer, act, inputs, index));
    step.ops.push_back(ProjectAddArgs{inputs, act.ff, layer.down.get(), floats(layer.down_bias), act.x, index});
    ++index;
  }
  step.ops.push_back(
      LogitsArgs{inputs, act.x, floats(model.final_norm), config.norm_eps, model.head, act.logits, config.hidden, config.vocab});
  step.ops.push_back(SampleArgs{inputs, act.logits, act.sampled, config.vocab});
  return step;
}

}  // namespace bolide
