// Every refusal of a config.json: its words, and that it ends in the exit code for models.
#include <filesystem>
#include <fstream>

#include "catch.h"
#include "checkpoint_files.h"
#include "config_text.h"

using namespace bolide;

namespace {

const std::string kSupported = "Supported: Qwen3ForCausalLM, Qwen2ForCausalLM, LlamaForCausalLM, MistralForCausalLM, GemmaForCausalLM";

Caught parse_text(const std::string& text) {
  return caught([&] { parse_model_config(text, "DIR/config.json"); });
}

}  // namespace

TEST_CASE("unknown architectures are refused with the supported ones") {
  const Caught unknown = refused(with(llama(), R"({"architectures":["FooForCausalLM"]})"));
  CHECK(unknown.text == "unknown architecture 'FooForCausalLM' in DIR/config.json. " + kSupported);
  CHECK(unknown.code == ExitCode::model);
  CHECK(refused(with(llama(), R"({"architectures":["LlamaForSequenceClassification"]})")).says("unknown architecture 'LlamaForSequence"));
  CHECK(refused(with(without(llama(), "architectures"), R"({"model_type":"foo"})")).text ==
        "unknown model_type 'foo' in DIR/config.json. " + kSupported);
}

TEST_CASE("model_type stands in for architectures, and must agree with it") {
  CHECK(parsed(without(llama(), "architectures")).architecture == "LlamaForCausalLM");
  CHECK(parsed(with(qwen2(), R"({"architectures":null})")).architecture == "Qwen2ForCausalLM");
  CHECK(parsed(with(qwen2(), R"({"architectures":[]})")).architecture == "Qwen2ForCausalLM");
  CHECK(parsed(without(gemma(), "model_type")).model_type == "gemma");
  CHECK(refused(with(llama(), R"({"model_type":"qwen2"})")).text ==
        "DIR/config.json: 'architectures' says 'LlamaForCausalLM', 'model_type' says 'qwen2'");
  CHECK(refused(without(without(llama(), "architectures"), "model_type")).text ==
        "DIR/config.json has neither 'architectures' nor 'model_type'. Is it a model's config.json?");
  CHECK(refused(with(llama(), R"({"architectures":"LlamaForCausalLM"})"))
            .says("'architectures' is 'LlamaForCausalLM', must be a list of strings"));
  CHECK(refused(with(llama(), R"({"model_type":3})")).text == "DIR/config.json: 'model_type' is 3, must be a string");
}

TEST_CASE("what is no JSON object is refused with the place") {
  const Caught broken = parse_text("{\"a\": 1,\n  oops}");
  CHECK(broken.says("DIR/config.json is not valid JSON (line 2, byte "));
  CHECK(broken.code == ExitCode::model);
  CHECK(parse_text("").says("DIR/config.json is not valid JSON (line 1, byte "));
  CHECK(parse_text("[1]").text == "DIR/config.json: is a list, not an object");
  CHECK(parse_text("null").text == "DIR/config.json: is null, not an object");
  CHECK(parse_text("{\"a\":\"\xff\"}").says("is not valid JSON"));
  CHECK(parse_text("{\"a\":1e999}").says("is not valid JSON"));
  CHECK(parse_text(std::string(2'000'000, '[')).says("is not valid JSON"));
  std::string nested;
  for (int i = 0; i < 100'000; ++i) nested += "{\"rope_scaling\":";
  CHECK(parse_text(nested + "1" + std::string(100'000, '}')).says("neither 'architectures' nor 'model_type'"));
}

TEST_CASE("missing and mistyped keys are listed together") {
  const Caught error = refused(with(without(without(llama(), "hidden_size"), "vocab_size"), R"({"num_hidden_layers":"four"})"));
  CHECK(error.text ==
        "3 problems in DIR/config.json: 'hidden_size' is missing; 'num_hidden_layers' is 'four', must be an integer; "
        "'vocab_size' is missing");
  CHECK(error.code == ExitCode::model);
  CHECK(refused(without(llama(), "intermediate_size")).text == "DIR/config.json: 'intermediate_size' is missing");
  CHECK(refused(with(llama(), R"({"hidden_size":null})")).says("'hidden_size' is missing"));
  CHECK(refused(with(llama(), R"({"hidden_size":64.0})")).says("'hidden_size' is 64.0, must be an integer"));
  CHECK(refused(with(llama(), R"({"hidden_size":true})")).says("'hidden_size' is true, must be an integer"));
  CHECK(refused(with(llama(), R"({"hidden_size":[64]})")).says("'hidden_size' is a list, must be an integer"));
  CHECK(refused(with(llama(), R"({"rms_norm_eps":"1e-5"})")).says("'rms_norm_eps' is '1e-5', must be a number"));
  CHECK(refused(with(llama(), R"({"tie_word_embeddings":1})")).says("'tie_word_embeddings' is 1, must be true or false"));
  CHECK(refused(with(llama(), R"({"attention_bias":"no"})")).says("'attention_bias' is 'no', must be true or false"));
  CHECK(refused(with(llama(), R"({"hidden_act":1})")).says("'hidden_act' is 1, must be a string"));
}

TEST_CASE("absurd and contradictory sizes are refused") {
  for (const char* key : {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                          "vocab_size", "max_position_embeddings", "head_dim"}) {
    for (const char* value : {"0", "-1", "9223372036854775807", "18446744073709551615", "-9223372036854775808"}) {
      const Caught error = refused(with(llama(), fmt::format("{{\"{}\":{}}}", key, value).c_str()));
      CHECK(error.says(fmt::format("'{}' is {}, must be from 1 to ", key, value)));
      CHECK(error.code == ExitCode::model);
    }
  }
  CHECK(
      refused(with(llama(), R"({"num_key_value_heads":3})")).says("'num_attention_heads' (4) is no multiple of 'num_key_value_heads' (3)"));
  CHECK(refused(with(llama(), R"({"num_key_value_heads":8})")).says("no multiple"));
  CHECK(refused(with(llama(), R"({"hidden_size":66})"))
            .says("'hidden_size' (66) is no multiple of 'num_attention_heads' (4) and there is no 'head_dim'"));
  CHECK(parsed(with(llama(), R"({"hidden_size":66,"head_dim":16})")).hidden == 66);
  CHECK(refused(with(llama(), R"({"head_dim":15})")).text == "DIR/config.json: the head size 15 is odd; RoPE rotates pairs");
  CHECK(
      refused(with(llama(), R"({"num_attention_heads":16384,"num_key_value_heads":1,"head_dim":4096})")).says("heads of size 4096 exceed"));
  CHECK(refused(with(llama(), R"({"rms_norm_eps":-1e-5})")).says("'rms_norm_eps' is -1e-05"));
}

TEST_CASE("the largest accepted sizes overflow nothing") {
  const ModelConfig c = parsed(with(llama(), R"({"hidden_size":262144,"intermediate_size":4194304,"num_hidden_layers":1024,
      "num_attention_heads":256,"num_key_value_heads":256,"head_dim":4096,"vocab_size":16777216,"max_position_embeddings":134217728,
      "attention_bias":true,"mlp_bias":true})"));
  const double D = 262144, F = 4194304, Q = 1048576, V = 16777216;
  CHECK(static_cast<double>(c.parameters()) == Approx(1024 * (4 * Q * D + 3 * D * F) + 2 * V * D).epsilon(1e-3));
  CHECK(c.parameters() < INT64_MAX / 4);
  CHECK(c.kv_bytes_per_token(DType::f32) == int64_t{2} * 1024 * 1048576 * 4);
  CHECK(c.kv_bytes_per_token(DType::f32) < INT64_MAX / c.context);
}

TEST_CASE("features that are not computed are refused by name") {
  const Caught gptq = refused(with(llama(), R"({"quantization_config":{"quant_method":"gptq","bits":4}})"));
  CHECK(gptq.text == "DIR/config.json: quantization_config of method 'gptq' is not supported. Use the unquantised checkpoint");
  CHECK(gptq.code == ExitCode::model);
  CHECK(refused(with(llama(), R"({"quantization_config":{}})")).says("method 'unnamed'"));
  CHECK(refused(with(llama(), R"({"quantization_config":"fp8"})")).says("'quantization_config' is 'fp8', must be an object"));
  CHECK_NOTHROW(parsed(with(llama(), R"({"quantization_config":null})")));
  CHECK(refused(with(llama(), R"({"num_local_experts":8})")).text ==
        "DIR/config.json: 'num_local_experts': mixtures of experts are not supported");
  CHECK(refused(with(llama(), R"({"q_lora_rank":1536})")).text == "DIR/config.json: 'q_lora_rank': latent attention is not supported");
  CHECK(refused(with(qwen2(), R"({"use_mrope":true})")).says("'use_mrope' (multimodal RoPE) is not supported"));
  CHECK_NOTHROW(parsed(with(qwen2(), R"({"use_mrope":false,"num_experts":null})")));
  CHECK(refused(with(llama(), R"({"quantization_config":{"quant_method":"awq"},"partial_rotary_factor":0.5})"))
            .says("2 problems in DIR/config.json"));
}

TEST_CASE("config files are read from disk, with the system's reason where that fails") {
  const TemporaryFolder folder;
  folder.write("config.json", llama().dump());
  CHECK(load_model_config(folder.path() / "config.json").hidden == 64);
  const Caught absent = caught([&] { load_model_config(folder.path() / "none.json"); });
  CHECK(absent.text == "cannot read " + folder.text() + "/none.json: No such file or directory");
  CHECK(absent.code == ExitCode::model);
  CHECK(caught([&] { load_model_config(folder.path()); }).code == ExitCode::model);
  folder.write("big.json", std::string(4'000'001, ' '));
  CHECK(caught([&] { load_model_config(folder.path() / "big.json"); }).says("has 4000001 bytes, too many for a config.json"));
  folder.write("bad.json", "{");
  CHECK(caught([&] { load_model_config(folder.path() / "bad.json"); }).says(folder.text() + "/bad.json is not valid JSON"));
}
