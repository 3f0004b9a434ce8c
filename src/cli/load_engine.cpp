#include "cli/load_engine.h"

#include "cli/log.h"
#include "cli/values.h"

namespace bolide {

std::unique_ptr<Engine> load_engine(const GenerateOptions& options, const EngineOptions& engine_options) {
  const auto wanted = parse_dtype_flag("--dtype", options.dtype);
  std::unique_ptr<Engine> engine = Engine::load(options.model.source(), engine_options);
  const EngineInfo& info = engine->info();
  if (wanted && *wanted != info.weights_dtype) {
    throw UsageError(fmt::format("--dtype {}: the weights are {}, and they are used as stored. Leave --dtype out", options.dtype,
                                 dtype_name(info.weights_dtype)));
  }
  for (const std::string& note : info.notes) log_info("{}", note);
  return engine;
}

void warn_of_endless_thinking(const Engine& engine, const ChatTemplate& chat, const Json& kwargs, const SamplingParams& params) {
  const bool thinks = chat.reads("enable_thinking") && !(kwargs.contains("enable_thinking") && kwargs["enable_thinking"] == false);
  if (thinks && params.temperature == 0 && engine.config().architecture.starts_with("Qwen3"))
    log_warning("greedy decoding with thinking on; the Qwen3 model card warns of endless repetition. --no-think or --temperature 0.6");
}

}  // namespace bolide
