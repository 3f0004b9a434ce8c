#include "catch.h"
#include "checkpoint_files.h"
#include "config_text.h"
#include "io/weight_store.h"
#include "model/weights.h"

using namespace bolide;

namespace {

// All tensors of a config as a checkpoint would hold them, products in `dtype`, norms in F32.
std::vector<TensorFile> tensors_of(const ModelConfig& c, DType dtype, bool head, const std::string& prefix = "model.") {
  const int64_t D = c.hidden, F = c.mlp, Dh = c.head_dim, Q = c.heads * Dh, KV = c.kv_heads * Dh;
  std::vector<TensorFile> out = {{prefix + "embed_tokens.weight", dtype, {c.vocab, D}, 1}};
  for (int l = 0; l < c.layers; ++l) {
    const std::string layer = prefix + "layers." + std::to_string(l) + ".";
    const float mark = static_cast<float>(l);
    const auto linear = [&](const std::string& name, int64_t rows, int64_t columns, bool bias) {
      out.push_back({layer + name + ".weight", dtype, {rows, columns}, mark});
      if (bias) out.push_back({layer + name + ".bias", dtype, {rows}, mark});
    };
    linear("self_attn.q_proj", Q, D, c.qkv_bias);
    linear("self_attn.k_proj", KV, D, c.qkv_bias);
    linear("self_attn.v_proj", KV, D, c.qkv_bias);
    linear("self_attn.o_proj", D, Q, c.o_bias);
    linear("mlp.gate_proj", F, D, c.mlp_bias);
    linear("mlp.up_proj", F, D, c.mlp_bias);
    linear("mlp.down_proj", D, F, c.mlp_bias);
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) out.push_back({layer + norm + ".weight", DType::f32, {D}});
    if (c.qk_norm) {
      for (const char* norm : {"self_attn.q_norm", "self_attn.k_norm"}) out.push_back({layer + norm + ".weight", DType::f32, {Dh}});
    }
  }
  out.push_back({prefix + "norm.weight", DType::f32, {D}});
  if (head) out.push_back({"lm_head.weight", dtype, {c.vocab, D}, 9});
  return out;
}

struct Bound {
  ModelConfig config;
  std::unique_ptr<WeightSource> source;
  ModelWeights weights;
};
Bound load_and_bind(const TemporaryFolder& folder, ModelConfig config, const std::vector<TensorFile>& tensors) {
  folder.write("model.safetensors", safetensors_file(tensors));
  Bound out{std::move(config), open_weight_store(folder.path()), {}};
  out.weights = bind_weights(out.config, *out.source);
  return out;
}

ModelConfig small(nlohmann::json config, bool tied) {
  config.update({{"hidden_size", 8},
                 {"intermediate_size", 12},
                 {"num_hidden_layers", 2},
                 {"num_attention_heads", 2},
                 {"num_key_value_heads", 1},
                 {"head_dim", 6},
                 {"vocab_size", 16},
                 {"tie_word_embeddings", tied}});
  return parsed(config);
}

int64_t stored_parameters(const ModelWeights& weights, DType dtype, int64_t norm_elements) {
  // Norms are F32 in these files, everything else `dtype`.
  return (weights.bytes() - 4 * norm_elements) / static_cast<int64_t>(dtype_size(dtype)) + norm_elements;
}

}  // namespace

TEST_CASE("every architecture binds all tensors of its checkpoint and leaves none unread") {
  const TemporaryFolder folder;
  for (const auto& json : {qwen3(), qwen2(), llama(), mistral(), gemma(), with(llama(), R"({"attention_bias":true,"mlp_bias":true})")}) {
    for (DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      for (bool tied : {false, true}) {
        INFO(json.dump() << dtype_name(dtype) << tied);
        const ModelConfig config = small(json, tied);
        const Bound bound = load_and_bind(folder, config, tensors_of(config, dtype, !tied));
        CHECK(bound.source->unread().empty());
        CHECK(bound.config.tied_head == tied);
        REQUIRE(bound.weights.layers.size() == 2);
        const LayerWeights& layer = bound.weights.layers[1];
        CHECK(layer.q.weight.shape == Shape{12, 8});
        CHECK(layer.k.weight.shape == Shape{6, 8});
        CHECK(layer.down.weight.shape == Shape{8, 12});
        CHECK(layer.q.weight.dtype == dtype);
        CHECK(layer.input_norm.dtype == DType::f32);
        CHECK(load_element(layer.o.weight.data, dtype, 1) == 1 + 1 / 64.0f);
        CHECK(static_cast<bool>(layer.q.bias) == config.qkv_bias);
        CHECK(static_cast<bool>(layer.o.bias) == config.o_bias);
        CHECK(static_cast<bool>(layer.up.bias) == config.mlp_bias);
        CHECK(static_cast<bool>(layer.k_norm) == config.qk_norm);
        CHECK((bound.weights.head.data == bound.weights.embed.data) == tied);
        const int64_t norms = 2 * (2 * 8 + (config.qk_norm ? 2 * 6 : 0)) + 8;
        CHECK(stored_parameters(bound.weights, dtype, norms) == config.parameters());
      }
    }
  }
}

TEST_CASE("a missing lm_head means the embeddings, whatever the flag says") {
  const TemporaryFolder folder;
  const ModelConfig config = small(llama(), false);
  const Bound bound = load_and_bind(folder, config, tensors_of(config, DType::bf16, false));
  CHECK(bound.config.tied_head);
  CHECK(bound.weights.head.data == bound.weights.embed.data);
}

TEST_CASE("a tied config with an lm_head in the file: the same bytes tie, others do not") {
  const TemporaryFolder folder;
  const ModelConfig config = small(llama(), true);
  auto tensors = tensors_of(config, DType::bf16, true);
  const Bound differs = load_and_bind(folder, config, tensors);
  CHECK_FALSE(differs.config.tied_head);
  CHECK(load_element(differs.weights.head.data, DType::bf16, 0) == 9);
  CHECK(load_element(differs.weights.embed.data, DType::bf16, 0) == 1);
  tensors.back().first = tensors.front().first;
  const Bound equal = load_and_bind(folder, config, tensors);
  CHECK(equal.config.tied_head);
  CHECK(equal.weights.head.data == equal.weights.embed.data);
}

TEST_CASE("a tied config whose file holds only lm_head uses it for both") {
  const TemporaryFolder folder;
  const ModelConfig config = small(llama(), true);
  auto tensors = tensors_of(config, DType::f32, true);
  tensors.erase(tensors.begin());
  const Bound bound = load_and_bind(folder, config, tensors);
  CHECK(bound.config.tied_head);
  CHECK(load_element(bound.weights.embed.data, DType::f32, 0) == 9);
}

TEST_CASE("checkpoints saved without the model. prefix load") {
  const TemporaryFolder folder;
  const ModelConfig config = small(qwen3(), true);
  const Bound bound = load_and_bind(folder, config, tensors_of(config, DType::bf16, false, ""));
  CHECK(bound.config.names.embed == "embed_tokens.weight");
  CHECK(bound.config.names.q == "layers.{}.self_attn.q_proj");
  CHECK(bound.source->unread().empty());
}

TEST_CASE("all problems of a checkpoint come in one message") {
  const TemporaryFolder folder;
  const ModelConfig config = small(qwen3(), false);
  auto tensors = tensors_of(config, DType::bf16, true);
  std::vector<TensorFile> changed;
  for (auto& tensor : tensors) {
    if (tensor.name == "model.layers.1.mlp.up_proj.weight") tensor.shape = {4, 8};
    if (tensor.name == "lm_head.weight") tensor.shape = {15, 8};
    if (tensor.name != "model.layers.0.self_attn.q_norm.weight") changed.push_back(tensor);
  }
  changed.push_back({"model.layers.7.extra", DType::f32, {1}});
  const Caught error = caught([&] { load_and_bind(folder, config, changed); });
  CHECK(error.text == "3 problems in " + folder.text() +
                          ": 'lm_head.weight' [15,8], config.json says [16,8]; 'model.layers.0.self_attn.q_norm.weight' absent, "
                          "config.json says [6]; 'model.layers.1.mlp.up_proj.weight' [4,8], config.json says [12,8]");
  CHECK(error.code == ExitCode::model);
}

TEST_CASE("tensors beyond the config are reported as unread") {
  const TemporaryFolder folder;
  const ModelConfig config = small(llama(), true);
  auto tensors = tensors_of(config, DType::bf16, false);
  tensors.push_back({"model.layers.2.input_layernorm.weight", DType::f32, {8}});
  const Bound bound = load_and_bind(folder, config, tensors);
  CHECK(bound.source->unread() == std::vector<std::string>{"model.layers.2.input_layernorm.weight"});
}

TEST_CASE("random weights bind for tied and separate heads") {
  for (bool tied : {false, true}) {
    ModelConfig config = small(qwen2(), tied);
    const auto source = make_random_weights(DType::bf16, 1);
    const ModelWeights weights = bind_weights(config, *source);
    CHECK(config.tied_head == tied);
    CHECK((weights.head.data == weights.embed.data) == tied);
    CHECK(weights.bytes() == 2 * config.parameters());
    CHECK(load_element(weights.final_norm.data, DType::bf16, 0) == 1.0f);
  }
}
