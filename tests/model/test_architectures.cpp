// What each architecture makes of its config.json: defaults, both forms, variants. Expected values are those of transformers' config
// classes and models.
#include <cmath>

#include "catch.h"
#include "config_text.h"

using namespace bolide;

TEST_CASE("every architecture has its name, its type and transformers' defaults") {
  const ModelConfig q3 = parsed(qwen3());
  CHECK(q3.architecture == "Qwen3ForCausalLM");
  CHECK(q3.model_type == "qwen3");
  CHECK(q3.context == 32768);
  CHECK(q3.head_dim == 128);  // not hidden / heads
  CHECK(q3.qk_norm);
  CHECK_FALSE(q3.qkv_bias);
  CHECK_FALSE(q3.tied_head);
  CHECK(q3.eos_ids.empty());
  CHECK_FALSE(q3.bos_id.has_value());
  CHECK(q3.norm_eps == 1e-6f);
  CHECK(q3.rope.theta == 10000.0);
  CHECK(q3.rope.scaling == RopeConfig::Scaling::none);
  CHECK(q3.windows == std::vector<int>{0, 0, 0, 0});
  CHECK_FALSE(q3.dtype.has_value());

  const ModelConfig q2 = parsed(qwen2());
  CHECK(q2.context == 32768);
  CHECK(q2.head_dim == 16);
  CHECK(q2.qkv_bias);
  CHECK_FALSE(q2.o_bias);
  CHECK_FALSE(q2.qk_norm);

  const ModelConfig l = parsed(llama());
  CHECK(l.context == 2048);
  CHECK(l.eos_ids == std::vector<int32_t>{2});
  CHECK(l.bos_id == 1);
  CHECK_FALSE(l.qkv_bias);
  CHECK_FALSE(l.mlp_bias);
  CHECK(l.activation == GatedActivation::silu);
  CHECK(l.norm_offset == 0.0f);
  CHECK(l.embed_scale == 1.0f);

  const ModelConfig m = parsed(mistral());
  CHECK(m.context == 131072);
  CHECK(m.windows == std::vector<int>{4096, 4096, 4096, 4096});
  CHECK(m.eos_ids == std::vector<int32_t>{2});

  const ModelConfig g = parsed(gemma());
  CHECK(g.context == 8192);
  CHECK(g.head_dim == 256);
  CHECK(g.tied_head);
  CHECK(g.activation == GatedActivation::gelu_tanh);
  CHECK(g.norm_offset == 1.0f);
  CHECK(g.embed_scale == 8.0f);
  CHECK(g.eos_ids == std::vector<int32_t>{1});
  CHECK(g.bos_id == 2);
}

TEST_CASE("heads and their size follow from what is given") {
  CHECK(parsed(without(llama(), "num_key_value_heads")).kv_heads == 4);
  CHECK(parsed(with(llama(), R"({"num_key_value_heads":null})")).kv_heads == 4);
  CHECK(parsed(with(mistral(), R"({"num_key_value_heads":null})")).kv_heads == 4);
  // An absent key is the class's default where that can be, else one per head.
  CHECK(parsed(without(with(mistral(), R"({"num_attention_heads":16})"), "num_key_value_heads")).kv_heads == 8);
  CHECK(parsed(without(with(qwen2(), R"({"num_attention_heads":64,"head_dim":16})"), "num_key_value_heads")).kv_heads == 32);
  CHECK(parsed(without(qwen3(), "num_key_value_heads")).kv_heads == 4);
  CHECK(parsed(with(llama(), R"({"head_dim":32})")).head_dim == 32);
  CHECK(parsed(with(qwen2(), R"({"head_dim":null})")).head_dim == 16);
  CHECK(parsed(with(qwen3(), R"({"head_dim":null})")).head_dim == 16);
  CHECK(parsed(with(mistral(), R"({"head_dim":40})")).head_dim == 40);
  CHECK(parsed(with(gemma(), R"({"head_dim":null})")).head_dim == 16);
}

TEST_CASE("biases follow the keys that transformers reads") {
  const ModelConfig l = parsed(with(llama(), R"({"attention_bias":true,"mlp_bias":true})"));
  CHECK((l.qkv_bias && l.o_bias && l.mlp_bias));
  const ModelConfig q = parsed(with(qwen3(), R"({"attention_bias":true})"));
  CHECK((q.qkv_bias && q.o_bias));
  const ModelConfig q2 = parsed(with(qwen2(), R"({"attention_bias":false})"));
  CHECK((q2.qkv_bias && !q2.o_bias));
  const ModelConfig m = parsed(with(mistral(), R"({"attention_bias":true,"mlp_bias":true})"));
  CHECK_FALSE((m.qkv_bias || m.o_bias || m.mlp_bias));
  const ModelConfig g = parsed(with(gemma(), R"({"attention_bias":true})"));
  CHECK((g.qkv_bias && g.o_bias));
}

TEST_CASE("Qwen's sliding window needs its switch, and layer_types or max_window_layers") {
  const auto windows = [](const char* changes) { return parsed(with(qwen2(), changes)).windows; };
  CHECK(windows(R"({"sliding_window":128,"max_window_layers":2})") == std::vector<int>{0, 0, 0, 0});
  CHECK(windows(R"({"use_sliding_window":true,"sliding_window":128,"max_window_layers":2})") == std::vector<int>{0, 0, 128, 128});
  CHECK(windows(R"({"use_sliding_window":true,"max_window_layers":3})") == std::vector<int>{0, 0, 0, 4096});
  CHECK(windows(R"({"use_sliding_window":true,"sliding_window":128})") == std::vector<int>{0, 0, 0, 0});
  CHECK(windows(R"({"use_sliding_window":true,"sliding_window":null,"max_window_layers":0})") == std::vector<int>{0, 0, 0, 0});
  CHECK(windows(R"({"use_sliding_window":true,"sliding_window":8,"max_window_layers":9,
                    "layer_types":["full_attention","sliding_attention","full_attention","sliding_attention"]})") ==
        std::vector<int>{0, 8, 0, 8});
  CHECK(windows(R"({"layer_types":["full_attention","full_attention","full_attention","full_attention"]})") ==
        std::vector<int>{0, 0, 0, 0});

  const auto refusal = [](const char* changes) { return refused(with(qwen3(), changes)).text; };
  CHECK(refusal(R"({"layer_types":["sliding_attention","full_attention","full_attention","full_attention"]})")
            .find("'layer_types' asks for sliding attention, but") != std::string::npos);
  CHECK(refusal(R"({"layer_types":["full_attention"]})") == "DIR/config.json: 'layer_types' has 1 entries, 'num_hidden_layers' is 4");
  CHECK(refusal(R"({"layer_types":["linear_attention","full_attention","full_attention","full_attention"]})") ==
        "DIR/config.json: layer type 'linear_attention' is not supported, only full_attention and sliding_attention");
  CHECK(refusal(R"({"layer_types":[1,2,3,4]})").find("'layer_types' is a list, must be a list of strings") != std::string::npos);
  CHECK(refusal(R"({"use_sliding_window":true,"sliding_window":0})").find("'sliding_window' is 0") != std::string::npos);
}

TEST_CASE("Mistral slides in every layer unless the window is null") {
  CHECK(parsed(with(mistral(), R"({"sliding_window":null})")).windows == std::vector<int>{0, 0, 0, 0});
  CHECK(parsed(with(mistral(), R"({"sliding_window":32})")).windows == std::vector<int>{32, 32, 32, 32});
  CHECK(refused(with(mistral(), R"({"sliding_window":0})")).text == "DIR/config.json: 'sliding_window' is 0, must be from 1 to 2147483647");
}

TEST_CASE("activations go by transformers' names") {
  const auto activation = [](const char* changes) { return parsed(with(llama(), changes)).activation; };
  CHECK(activation(R"({"hidden_act":"silu"})") == GatedActivation::silu);
  CHECK(activation(R"({"hidden_act":"swish"})") == GatedActivation::silu);
  CHECK(activation(R"({"hidden_act":"gelu"})") == GatedActivation::gelu_erf);
  CHECK(activation(R"({"hidden_act":"gelu_new"})") == GatedActivation::gelu_tanh);
  CHECK(activation(R"({"hidden_act":"gelu_pytorch_tanh"})") == GatedActivation::gelu_tanh);
  CHECK(refused(with(llama(), R"({"hidden_act":"relu"})")).text ==
        "DIR/config.json: 'hidden_act' 'relu' is not supported, only silu, swish, gelu, gelu_new and gelu_pytorch_tanh");
}

TEST_CASE("Gemma's gelu means the tanh form, under either key") {
  const auto activation = [](const char* changes) { return parsed(with(gemma(), changes)).activation; };
  CHECK(activation(R"({"hidden_act":"gelu"})") == GatedActivation::gelu_tanh);
  CHECK(activation(R"({"hidden_act":null,"hidden_activation":null})") == GatedActivation::gelu_tanh);
  CHECK(activation(R"({"hidden_act":"gelu","hidden_activation":"gelu_pytorch_tanh"})") == GatedActivation::gelu_tanh);
  CHECK(activation(R"({"hidden_act":"silu"})") == GatedActivation::silu);
  CHECK(refused(with(gemma(), R"({"hidden_act":"gelu","hidden_activation":"silu"})")).text ==
        "DIR/config.json: 'hidden_activation' contradicts 'hidden_act'");
  CHECK(refused(with(gemma(), R"({"use_bidirectional_attention":true})")).says("'use_bidirectional_attention' is not supported"));
  CHECK(parsed(with(gemma(), R"({"hidden_size":3072})")).embed_scale == static_cast<float>(std::sqrt(3072.0)));
  CHECK_FALSE(parsed(with(gemma(), R"({"tie_word_embeddings":false})")).tied_head);
}

TEST_CASE("RoPE reads the forms of transformers 4 and 5") {
  const auto rope = [](const char* changes) { return parsed(with(llama(), changes)).rope; };
  CHECK(rope(R"({"rope_theta":500000.0,"rope_scaling":null})").theta == 500000.0);
  CHECK(rope(R"({"rope_theta":1000000})").theta == 1e6);
  CHECK(rope(R"({"rope_parameters":{"rope_theta":1000000.0,"rope_type":"default"}})").theta == 1e6);
  CHECK(rope(R"({"rope_theta":77.0,"rope_parameters":{"rope_type":"default"}})").theta == 77.0);
  CHECK(rope(R"({"rope_theta":77.0,"rope_scaling":{},"rope_parameters":{"rope_theta":88.0}})").theta == 88.0);

  for (const char* linear : {R"({"rope_scaling":{"type":"linear","factor":4.0}})", R"({"rope_scaling":{"rope_type":"linear","factor":4}})",
                             R"({"rope_parameters":{"rope_type":"linear","factor":4.0,"rope_theta":10000.0}})"}) {
    const RopeConfig r = rope(linear);
    CHECK(r.scaling == RopeConfig::Scaling::linear);
    CHECK(r.factor == 4.0);
    CHECK(r.theta == 10000.0);
  }
  const RopeConfig r = rope(R"({"rope_theta":500000.0,"rope_scaling":{"rope_type":"llama3","factor":32.0,"low_freq_factor":1.0,
                                "high_freq_factor":4.0,"original_max_position_embeddings":8192}})");
  CHECK(r.scaling == RopeConfig::Scaling::llama3);
  CHECK(r.theta == 500000.0);
  CHECK(r.factor == 32.0);
  CHECK(r.low_freq_factor == 1.0);
  CHECK(r.high_freq_factor == 4.0);
  CHECK(r.original_context == 8192);
  const char* no_original = R"({"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0}})";
  CHECK(rope(no_original).original_context == 2048);
  // Where both objects are given, transformers takes rope_scaling.
  CHECK(rope(R"({"rope_scaling":{"type":"linear","factor":2.0},"rope_parameters":{"rope_type":"linear","factor":3.0}})").factor == 2.0);
}

TEST_CASE("RoPE that is not computed here is refused by name") {
  for (const char* type : {"dynamic", "yarn", "longrope", "su", "mrope", "proportional"}) {
    const auto old_form = nlohmann::json{{"rope_scaling", {{"type", type}, {"factor", 2.0}}}};
    const auto new_form = nlohmann::json{{"rope_parameters", {{"rope_type", type}, {"factor", 2.0}}}};
    for (const auto& form : {old_form, new_form}) {
      const Caught error = refused(with(llama(), form.dump().c_str()));
      CHECK(error.text == fmt::format("DIR/config.json: RoPE type '{}' is not supported, only default, linear and llama3", type));
      CHECK(error.code == ExitCode::model);
    }
  }
  const auto refusal = [](const char* changes) { return refused(with(llama(), changes)); };
  CHECK(refusal(R"({"partial_rotary_factor":0.5})").text == "DIR/config.json: 'partial_rotary_factor' 0.5 is not supported, only 1");
  CHECK(refusal(R"({"rope_parameters":{"rope_type":"default","partial_rotary_factor":0.25}})").says("0.25 is not supported"));
  CHECK(refusal(R"({"rope_scaling":{"type":"default","mrope_section":[1,2,3]}})").says("'mrope_section' (multimodal) is not supported"));
  CHECK(refusal(R"({"rope_parameters":{"full_attention":{"rope_type":"default"}}})").says("per layer type are not supported"));
  CHECK(refusal(R"({"rope_scaling":{"type":"linear"}})").text == "DIR/config.json: 'rope_scaling.factor' is missing");
  CHECK(refusal(R"({"rope_scaling":{"rope_type":"llama3","factor":8.0}})").text ==
        "2 problems in DIR/config.json: 'rope_scaling.low_freq_factor' is missing; 'rope_scaling.high_freq_factor' is missing");
  CHECK(refusal(R"({"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":4.0,"high_freq_factor":4.0}})")
            .says("high_freq_factor (4) must exceed its low_freq_factor (4)"));
  CHECK(refusal(R"({"rope_scaling":{"type":"linear","factor":0}})").says("'rope_scaling.factor' is 0, must be from"));
  CHECK(refusal(R"({"rope_scaling":"linear"})").text == "DIR/config.json: 'rope_scaling' is 'linear', must be an object");
  CHECK(refusal(R"({"rope_theta":-1})").says("'rope_theta' is -1"));
}

TEST_CASE("token ids come as one, as many, as null or not at all") {
  CHECK(parsed(with(llama(), R"({"eos_token_id":7})")).eos_ids == std::vector<int32_t>{7});
  CHECK(parsed(with(llama(), R"({"eos_token_id":[7,9]})")).eos_ids == std::vector<int32_t>{7, 9});
  CHECK(parsed(with(llama(), R"({"eos_token_id":null})")).eos_ids.empty());
  CHECK_FALSE(parsed(with(llama(), R"({"bos_token_id":null})")).bos_id.has_value());
  CHECK(parsed(with(llama(), R"({"bos_token_id":128000})")).bos_id == 128000);
  CHECK(refused(with(llama(), R"({"eos_token_id":[1,-2]})")).says("'eos_token_id' is -2, must be from 0 to 2147483647"));
  CHECK(refused(with(llama(), R"({"eos_token_id":"</s>"})")).says("'eos_token_id' is '</s>', must be an integer"));
}

TEST_CASE("the stored dtype has an old and a new key") {
  CHECK(parsed(with(llama(), R"({"torch_dtype":"bfloat16"})")).dtype == DType::bf16);
  CHECK(parsed(with(llama(), R"({"dtype":"float16"})")).dtype == DType::f16);
  CHECK(parsed(with(llama(), R"({"dtype":"float32","torch_dtype":"float16"})")).dtype == DType::f32);
  CHECK_FALSE(parsed(with(llama(), R"({"dtype":"float64"})")).dtype.has_value());
}
