// The config.json texts that transformers 4.51 and 5.17 wrote for the tiny reference checkpoints.
#pragma once

namespace bolide {

inline constexpr const char* kLlamaGqaBf16 = R"({ "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": null,
"eos_token_id": null, "head_dim": 16, "hidden_act": "silu", "hidden_size": 96, "initializer_range": 0.02,
"intermediate_size": 256, "max_position_embeddings": 2048, "mlp_bias": false, "model_type": "llama", "num_attention_heads": 6,
"num_hidden_layers": 4, "num_key_value_heads": 3, "pad_token_id": null, "pretraining_tp": 1, "rms_norm_eps": 1e-06,
"tie_word_embeddings": false, "transformers_version": "4.51.0", "use_cache": true, "vocab_size": 512, "rope_theta": 10000.0,
"rope_scaling": null, "torch_dtype": "bfloat16" })";

inline constexpr const char* kQwen2BiasBf16 = R"({ "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": null, "eos_token_id": null,
"hidden_act": "silu", "hidden_size": 64, "initializer_range": 0.02, "intermediate_size": 176, "max_position_embeddings": 2048,
"max_window_layers": 28, "model_type": "qwen2", "num_attention_heads": 4, "num_hidden_layers": 28, "num_key_value_heads": 2,
"pad_token_id": null, "rms_norm_eps": 1e-06, "sliding_window": null, "tie_word_embeddings": true,
"transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false, "vocab_size": 512, "rope_theta": 1000000.0,
"rope_scaling": null, "torch_dtype": "bfloat16" })";

inline constexpr const char* kQwen3Bf16 = R"({ "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": null,
"dtype": "bfloat16", "eos_token_id": null, "head_dim": 32, "hidden_act": "silu", "hidden_size": 64, "initializer_range": 0.02,
"intermediate_size": 160,
"layer_types": ["full_attention", "full_attention", "full_attention", "full_attention", "full_attention",
"full_attention", "full_attention", "full_attention", "full_attention", "full_attention", "full_attention",
"full_attention", "full_attention", "full_attention", "full_attention", "full_attention", "full_attention",
"full_attention", "full_attention", "full_attention", "full_attention", "full_attention", "full_attention",
"full_attention", "full_attention", "full_attention", "full_attention", "full_attention"], "max_position_embeddings": 4096,
"max_window_layers": 28, "model_type": "qwen3", "num_attention_heads": 4, "num_hidden_layers": 28, "num_key_value_heads": 2,
"pad_token_id": null, "rms_norm_eps": 1e-06, "rope_parameters": { "rope_theta": 1000000.0, "rope_type": "default" },
"sliding_window": null, "tie_word_embeddings": true, "transformers_version": "5.17.0", "use_cache": true,
"use_sliding_window": false, "vocab_size": 512 })";

inline constexpr const char* kQwen3F32Untied = R"({ "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": null,
"dtype": "float32", "eos_token_id": null, "head_dim": 32, "hidden_act": "silu", "hidden_size": 64, "initializer_range": 0.02,
"intermediate_size": 160,
"layer_types": ["full_attention", "full_attention", "full_attention", "full_attention", "full_attention",
"full_attention", "full_attention", "full_attention", "full_attention", "full_attention", "full_attention",
"full_attention", "full_attention", "full_attention", "full_attention", "full_attention", "full_attention",
"full_attention", "full_attention", "full_attention", "full_attention", "full_attention", "full_attention",
"full_attention", "full_attention", "full_attention", "full_attention", "full_attention"], "max_position_embeddings": 4096,
"max_window_layers": 28, "model_type": "qwen3", "num_attention_heads": 4, "num_hidden_layers": 28, "num_key_value_heads": 2,
"pad_token_id": null, "rms_norm_eps": 1e-06, "rope_parameters": { "rope_theta": 1000000.0, "rope_type": "default" },
"sliding_window": null, "tie_word_embeddings": false, "transformers_version": "5.17.0", "use_cache": true,
"use_sliding_window": false, "vocab_size": 512 })";

}  // namespace bolide
