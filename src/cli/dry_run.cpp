#include "cli/dry_run.h"

#include "cli/json.h"
#include "cli/log.h"
#include "cli/model_facts.h"
#include "cli/prompt_input.h"
#include "cli/streams.h"
#include "core/human.h"
#include "engine/kv_plan.h"

namespace bolide {
namespace {

constexpr int kSchemaVersion = 1;

Json report_json(const GenerateOptions& options, const MemoryPlan& plan, const Prompt& prompt, int64_t kv_bytes) {
  return {{"schema_version", kSchemaVersion},
          {"model", options.model.name()},
          {"device", {{"id", plan.device.id}, {"name", plan.device.name}, {"reason", plan.device_reason}}},
          {"prompt_ids", prompt.ids},
          {"ctx_size", plan.load_ctx_size},
          {"kv_tokens", plan.load_kv_tokens},
          {"kv_cache_dtype", dtype_name(plan.kv_dtype)},
          {"weights_bytes", plan.weights_bytes},
          {"workspace_bytes", plan.workspace_bytes},
          {"kv_bytes", kv_bytes},
          {"reserve_bytes", kMemoryReserve},
          {"limit_bytes", plan.limit_bytes}};
}

std::string report_text(const MemoryPlan& plan, const Prompt& prompt, int64_t kv_bytes) {
  const auto bytes = [](int64_t count) { return human_bytes(static_cast<size_t>(count)); };
  return fmt::format(
      "fits on {}: weights {} + workspace {} + KV {} ({} tokens, {}) of {}\n"
      "prompt {} tokens, context {}\n",
      plan.device_reason, bytes(plan.weights_bytes), bytes(plan.workspace_bytes + static_cast<int64_t>(kMemoryReserve)), bytes(kv_bytes),
      with_commas(plan.load_kv_tokens), dtype_name(plan.kv_dtype), bytes(plan.limit_bytes),
      with_commas(static_cast<int64_t>(prompt.ids.size())), with_commas(plan.load_ctx_size));
}

}  // namespace

ExitCode dry_run(const GenerateOptions& options) {
  const std::optional<ChatTemplate> chat = options.chat_template();
  Prompt prompt = read_prompt(options);
  const ModelFacts facts = model_facts(options.model);
  const MemoryPlan plan = memory_plan(facts, options.engine_options());
  if (!plan.load_error.empty()) throw MemoryError(plan.load_error);
  const std::unique_ptr<Tokenizer> tokenizer = options.model.random() ? nullptr : load_tokenizer(options.model.folder);
  encode_prompt(prompt, options, tokenizer.get(), chat);
  truncate_prompt(prompt, options, tokenizer.get(), plan.load_ctx_size);
  const auto length = static_cast<int64_t>(prompt.ids.size());
  if (length >= plan.load_ctx_size) {
    throw Error(fmt::format("prompt has {} tokens, context is {}. Shorten it, or --truncate left", with_commas(length),
                            with_commas(plan.load_ctx_size)));
  }
  for (const std::string& note : plan.load_notes) log_info("{}", note);
  const int64_t kv_bytes = plan.load_kv_tokens * facts.config.kv_bytes_per_token(plan.kv_dtype);
  ResultStream out;
  out.write(options.output_format == "text" ? report_text(plan, prompt, kv_bytes)
                                            : json_text(report_json(options, plan, prompt, kv_bytes)) + "\n");
  out.finish();
  return ExitCode::ok;
}

}  // namespace bolide
