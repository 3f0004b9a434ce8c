#include "catch.h"
#include "models/architecture.h"
#include "reference_configs.h"

using namespace bolide;

TEST_CASE("the reference checkpoints' config.json: llama, form of transformers 4") {
  const ModelConfig c = parse_model_config(kLlamaGqaBf16, "config.json");
  CHECK(c.architecture == "LlamaForCausalLM");
  CHECK(c.hidden == 96);
  CHECK(c.mlp == 256);
  CHECK(c.layers == 4);
  CHECK(c.heads == 6);
  CHECK(c.kv_heads == 3);
  CHECK(c.head_dim == 16);
  CHECK(c.vocab == 512);
  CHECK(c.context == 2048);
  CHECK(c.norm_eps == 1e-6f);
  CHECK_FALSE(c.tied_head);
  CHECK_FALSE((c.qkv_bias || c.o_bias || c.mlp_bias || c.qk_norm));
  CHECK(c.dtype == DType::bf16);
  CHECK(c.eos_ids.empty());
  CHECK_FALSE(c.bos_id.has_value());
  CHECK(c.rope.theta == 10000.0);
  CHECK(c.parameters() == (1013392 - 8 - 4040) / 2);  // all of the file's data is parameters of two bytes
}

TEST_CASE("the reference checkpoints' config.json: qwen2, form of transformers 4") {
  const ModelConfig c = parse_model_config(kQwen2BiasBf16, "config.json");
  CHECK(c.hidden == 64);
  CHECK(c.layers == 28);
  CHECK(c.head_dim == 16);
  CHECK((c.qkv_bias && !c.o_bias && !c.qk_norm && c.tied_head));
  CHECK(c.rope.theta == 1e6);
  CHECK(c.windows == std::vector<int>(28, 0));
  CHECK(c.parameters() == (2696000 - 8 - 35512) / 2);
}

TEST_CASE("the reference checkpoints' config.json: qwen3, form of transformers 5") {
  const ModelConfig tied = parse_model_config(kQwen3Bf16, "config.json");
  CHECK(tied.head_dim == 32);  // not hidden / heads
  CHECK((tied.qk_norm && tied.tied_head && !tied.qkv_bias));
  CHECK(tied.rope.theta == 1e6);
  CHECK(tied.context == 4096);
  CHECK(tied.dtype == DType::bf16);
  CHECK(tied.parameters() == (3205864 - 8 - 32864) / 2);
  CHECK(tied.kv_bytes_per_token(DType::bf16) == 2 * 28 * 2 * 32 * 2);

  const ModelConfig untied = parse_model_config(kQwen3F32Untied, "config.json");
  CHECK_FALSE(untied.tied_head);
  CHECK(untied.dtype == DType::f32);
  CHECK(untied.parameters() == (6509816 - 8 - 32752) / 4);
}
