#include <filesystem>

#include "catch.h"
#include "models/architecture.h"

using namespace bolide;

namespace {

ModelConfig published(const std::string& name) { return load_model_config(BOLIDE_SOURCE_DIR "/configs/models/" + name + ".json"); }

struct Row {
  const char* name;
  int hidden, mlp, layers, heads, kv_heads, head_dim, vocab;
  bool tied;
  double theta;
  int64_t context;
  int64_t parameters;
};

}  // namespace

TEST_CASE("the published shapes parse to their sizes and parameter counts") {
  // Per layer: attention D (Q + 2 KV) + Q D, MLP 3 D F, norms 2 D, then biases Q + 2 KV (qwen2) or q/k norms 2 Dh (qwen3);
  // once: V D (twice if the head is separate) and the final norm D. Qwen3-0.6B, for example: 28 x (1024 x 4096 + 2048 x 1024
  // + 3 x 1024 x 3072 + 2048 + 256) + 151936 x 1024 + 1024.
  const Row rows[] = {
      {"qwen3-0.6b", 1024, 3072, 28, 16, 8, 128, 151936, true, 1e6, 40960, 596'049'920},
      {"qwen3-1.7b", 2048, 6144, 28, 16, 8, 128, 151936, true, 1e6, 40960, 1'720'574'976},
      {"qwen2.5-0.5b", 896, 4864, 24, 14, 2, 64, 151936, true, 1e6, 32768, 494'032'768},
      {"qwen2.5-1.5b", 1536, 8960, 28, 12, 2, 128, 151936, true, 1e6, 32768, 1'543'714'304},
      {"qwen2.5-7b", 3584, 18944, 28, 28, 4, 128, 152064, false, 1e6, 32768, 7'615'616'512},
      {"llama-3.2-1b", 2048, 8192, 16, 32, 8, 64, 128256, true, 5e5, 131072, 1'235'814'400},
      {"llama-3.2-3b", 3072, 8192, 28, 24, 8, 128, 128256, true, 5e5, 131072, 3'212'749'824},
      {"gemma-2b", 2048, 16384, 18, 8, 1, 256, 256000, true, 1e4, 8192, 2'506'172'416},
      {"gemma-7b", 3072, 24576, 28, 16, 16, 256, 256000, true, 1e4, 8192, 8'537'680'896},
      {"smollm2-135m", 576, 1536, 30, 9, 3, 64, 49152, true, 1e5, 8192, 134'515'008},
      {"mistral-7b-v0.1", 4096, 14336, 32, 32, 8, 128, 32000, false, 1e4, 32768, 7'241'732'096},
      {"mistral-nemo-12b", 5120, 14336, 40, 32, 8, 128, 131072, false, 1e6, 131072, 12'247'782'400},
      {"mistral-small-24b", 5120, 32768, 40, 32, 8, 128, 131072, false, 1e8, 32768, 23'572'403'200},
  };
  for (const Row& row : rows) {
    INFO(row.name);
    const ModelConfig c = published(row.name);
    CHECK(c.hidden == row.hidden);
    CHECK(c.mlp == row.mlp);
    CHECK(c.layers == row.layers);
    CHECK(c.heads == row.heads);
    CHECK(c.kv_heads == row.kv_heads);
    CHECK(c.head_dim == row.head_dim);
    CHECK(c.vocab == row.vocab);
    CHECK(c.tied_head == row.tied);
    CHECK(c.rope.theta == row.theta);
    CHECK(c.context == row.context);
    CHECK(c.parameters() == row.parameters);
    CHECK(c.dtype == DType::bf16);
    CHECK_FALSE(c.eos_ids.empty());
  }
}

TEST_CASE("what is particular about the published models") {
  CHECK(published("qwen3-0.6b").qk_norm);
  CHECK(published("qwen3-0.6b").kv_bytes_per_token(DType::bf16) == 114'688);
  CHECK(published("qwen2.5-0.5b").qkv_bias);
  CHECK(published("qwen2.5-7b").windows == std::vector<int>(28, 0));
  CHECK(published("mistral-7b-v0.1").windows == std::vector<int>(32, 4096));
  CHECK(published("llama-3.2-1b").rope.scaling == RopeConfig::Scaling::llama3);
  CHECK(published("llama-3.2-1b").rope.factor == 32.0);
  CHECK(published("llama-3.2-1b").norm_eps == 1e-5f);
  CHECK(published("gemma-7b").activation == GatedActivation::gelu_tanh);
  CHECK(published("gemma-7b").norm_offset == 1.0f);
  CHECK(published("gemma-2b").kv_bytes_per_token(DType::bf16) == 18'432);
  CHECK(published("gemma-7b").embed_scale == Approx(55.42562584f));
}

TEST_CASE("every file of configs/models parses") {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(BOLIDE_SOURCE_DIR "/configs/models")) {
    INFO(entry.path());
    CHECK_NOTHROW(load_model_config(entry.path()));
    ++files;
  }
  CHECK(files >= 10);
}
