#include "model/weights.h"

#include <cstring>
#include <string_view>

namespace bolide {
namespace {

std::string layer_name(const std::string& pattern, int layer) {
  std::string name = pattern;
  if (const size_t at = name.find("{}"); at != std::string::npos) name.replace(at, 2, std::to_string(layer));
  return name;
}

// Checkpoints saved from the bare decoder (embedding models, mostly) lack the "model." prefix; transformers loads them all the same.
void drop_prefix(TensorNames& names) {
  constexpr std::string_view kPrefix = "model.";
  for (std::string* name : {&names.embed, &names.final_norm, &names.input_norm, &names.q, &names.k, &names.v, &names.o, &names.q_norm,
                            &names.k_norm, &names.post_norm, &names.gate, &names.up, &names.down}) {
    if (name->starts_with(kPrefix)) name->erase(0, kPrefix.size());
  }
}

class Binder {
 public:
  Binder(const ModelConfig& config, WeightSource& source) : c_(config), source_(source) {}

  LayerWeights layer(int l) {
    const int64_t D = c_.hidden, F = c_.mlp, Dh = c_.head_dim;
    const int64_t Q = c_.heads * Dh, KV = c_.kv_heads * Dh;
    const TensorNames& n = c_.names;
    LayerWeights w;
    w.input_norm = source_.require(layer_name(n.input_norm, l), {D});
    w.q = linear(n.q, l, Q, D, c_.qkv_bias);
    w.k = linear(n.k, l, KV, D, c_.qkv_bias);
    w.v = linear(n.v, l, KV, D, c_.qkv_bias);
    if (c_.qk_norm) {
      w.q_norm = source_.require(layer_name(n.q_norm, l), {Dh});
      w.k_norm = source_.require(layer_name(n.k_norm, l), {Dh});
    }
    w.o = linear(n.o, l, D, Q, c_.o_bias);
    w.post_norm = source_.require(layer_name(n.post_norm, l), {D});
    w.gate = linear(n.gate, l, F, D, c_.mlp_bias);
    w.up = linear(n.up, l, F, D, c_.mlp_bias);
    w.down = linear(n.down, l, D, F, c_.mlp_bias);
    return w;
  }

 private:
  Linear linear(const std::string& pattern, int l, int64_t out, int64_t in, bool bias) {
    const std::string name = layer_name(pattern, l);
    Linear linear;
    linear.weight = source_.require(name + ".weight", {out, in});
    if (bias) linear.bias = source_.require(name + ".bias", {out});
    return linear;
  }

  const ModelConfig& c_;
  WeightSource& source_;
};

bool same_contents(const TensorView& a, const TensorView& b) {
  return a && b && a.dtype == b.dtype && a.shape == b.shape && std::memcmp(a.data, b.data, a.bytes()) == 0;
}

// transformers ties by the config's flag, except that a checkpoint which holds both matrices with different contents keeps both, and
// one which holds only lm_head uses it for both.
void bind_embeddings(ModelConfig& config, WeightSource& source, ModelWeights& weights) {
  const Shape shape = {config.vocab, config.hidden};
  const TensorNames& names = config.names;
  if (config.tied_head && !source.contains(names.embed) && source.contains(names.head)) {
    weights.embed = weights.head = source.require(names.head, shape);
    return;
  }
  weights.embed = source.require(names.embed, shape);
  // Only asked for where it counts: a random source makes whatever it is asked for.
  if (!config.tied_head || source.contains(names.head)) weights.head = source.optional(names.head, shape);
  config.tied_head = !weights.head || (config.tied_head && same_contents(weights.embed, weights.head));
  if (config.tied_head) weights.head = weights.embed;
}

}  // namespace

ModelWeights bind_weights(ModelConfig& config, WeightSource& source) {
  if (!source.contains(config.names.embed)) {
    TensorNames bare = config.names;
    drop_prefix(bare);
    if (source.contains(bare.embed)) config.names = bare;
  }
  ModelWeights weights;
  bind_embeddings(config, source, weights);
  Binder binder(config, source);
  weights.layers.reserve(static_cast<size_t>(config.layers));
  for (int l = 0; l < config.layers; ++l) weights.layers.push_back(binder.layer(l));
  weights.final_norm = source.require(config.names.final_norm, {config.hidden});
  source.throw_problems();
  return weights;
}

int64_t ModelWeights::bytes() const {
  size_t total = 0;
  const auto add = [&](const TensorView& view) { total += view ? view.bytes() : 0; };
  const auto add_linear = [&](const Linear& linear) {
    add(linear.weight);
    add(linear.bias);
  };
  add(embed);
  for (const LayerWeights& w : layers) {
    for (const TensorView* norm : {&w.input_norm, &w.q_norm, &w.k_norm, &w.post_norm}) add(*norm);
    for (const Linear* l : {&w.q, &w.k, &w.v, &w.o, &w.gate, &w.up, &w.down}) add_linear(*l);
  }
  add(final_norm);
  if (head.data != embed.data) add(head);
  return static_cast<int64_t>(total);
}

}  // namespace bolide
