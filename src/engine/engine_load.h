// What Engine::load builds, in the order in which its parts depend on each other.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/scheduler.h"
#include "exec/executor.h"
#include "exec/open_model.h"

namespace bolide {

struct LoadedModel {
  ChosenBackend device;  // outlives everything that lies in its memory
  OpenModel model;
  std::unique_ptr<Tokenizer> tokenizer;  // null when the folder has none
  GenerationDefaults defaults;
  std::vector<int32_t> eos_ids;  // sorted, each once, all inside the vocabulary
  SchedulerLimits limits;
  std::string ctx_source;  // where the context size comes from, for messages
  EngineInfo info;
  std::unique_ptr<Executor> executor;
  bool run_ahead = false;  // see EngineOptions
};

// Throws UsageError for options outside their range.
void validate_options(const EngineOptions& options);
// With the rows of a step that loading on this backend would take.
EngineOptions with_step_tokens(EngineOptions options, const Backend& backend);

// `device`: the backend to use; without one, what options.device asks for. Throws UsageError for options outside their range, ModelError,
// MemoryError.
LoadedModel load_engine(const ModelSource& source, const EngineOptions& options, ChosenBackend device = {});

std::unique_ptr<Engine> make_engine(LoadedModel loaded);

}  // namespace bolide
