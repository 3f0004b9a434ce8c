// What `bolide generate` is asked for, and the flags that say so.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/chat_options.h"
#include "cli/common_options.h"
#include "engine/engine.h"

namespace bolide {

struct GenerateOptions {
  ModelOptions model;
  DeviceOptions device;
  ConsoleOptions console;

  // Prompt: at most one of the three.
  std::optional<std::string> prompt, prompt_file, prompt_ids;
  bool escape = false, add_special = true, print_prompt = false, raw = false;
  ChatOptions chat;
  bool allow_special = false, hide_thinking = false;
  std::string truncate;  // "", left, right

  // Limits and memory.
  int32_t max_tokens = -1;  // -1 = until the model ends or the context is full
  int64_t ctx_size = 0;
  int32_t sequences = 1, max_num_seqs = 0, max_num_batched_tokens = 0;
  std::string dtype = "auto", kv_cache_dtype = "auto", kv_cache_memory;
  double gpu_memory_utilization = EngineOptions{}.gpu_memory_utilization;

  // Sampling: what is not set comes from generation_config.json, then from SamplingParams.
  std::optional<float> temperature, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
  std::optional<int32_t> top_k, repeat_last_n;
  std::optional<std::string> seed;
  std::string generation_config = "auto";
  std::vector<std::string> stop, stop_token_ids, logit_bias;
  bool include_stop = false, ignore_eos = false, skip_special = true;
  std::optional<int32_t> logprobs;
  bool prompt_logprobs = false;

  std::string output_format = "text";
  bool echo = false, dry_run = false;

  void add_to(Flags& flags);
  // What can be checked before anything is loaded. Throws UsageError.
  void check() const;
  // The chat template that the prompt goes through; nothing for plain completion: with --raw, --prompt-ids, random weights, and where the
  // folder has none. Throws UsageError when a flag asks for what only a template can do and there is none, ModelError for a template
  // that cannot be used.
  std::optional<ChatTemplate> chat_template() const;

  EngineOptions engine_options() const;
  // Flags over generation_config.json over the built-in values; the seed is drawn here when none is given. Everything but
  // sequence_key, which differs per sequence.
  SamplingParams sampling(const GenerationDefaults& defaults) const;
  // "temperature 0.6, top_k 20": the values that generation_config.json decides; empty when it decides none.
  std::string decided_by(const GenerationDefaults& defaults) const;
  // The same for --show-config; nothing where there is no model to ask. Resolves it.
  Flags::Decided decided_by_model();
};

extern const std::string_view kGenerateHelp;

}  // namespace bolide
