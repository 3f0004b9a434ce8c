// Loading a model as `generate` and `chat` do it, and what is worth saying about it before the first prompt.
#pragma once

#include <memory>

#include "cli/generate_options.h"

namespace bolide {

// With the engine's notes in the log. Throws what Engine::load throws, and UsageError for a --dtype that is not the weights' own.
std::unique_ptr<Engine> load_engine(const GenerateOptions& options, const EngineOptions& engine_options);

// What the card of the model family warns of: greedy decoding while it thinks. `kwargs`: the template's variables.
void warn_of_endless_thinking(const Engine& engine, const ChatTemplate& chat, const Json& kwargs, const SamplingParams& params);

}  // namespace bolide
