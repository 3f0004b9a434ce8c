// Any bytes as a config.json: either a ModelError, or sizes from which everything that is derived can be computed.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "models/architecture.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const bolide::ModelConfig config = bolide::parse_model_config(std::string(reinterpret_cast<const char*>(data), size), "fuzz.json");
    if (config.parameters() <= 0 || config.kv_bytes_per_token(bolide::DType::f32) <= 0) std::abort();
    if (config.heads % config.kv_heads != 0 || config.windows.size() != static_cast<size_t>(config.layers)) std::abort();
    if (bolide::rope_inverse_frequencies(config.rope, config.head_dim).size() != static_cast<size_t>(config.head_dim / 2)) std::abort();
  } catch (const bolide::ModelError&) {
  }
  return 0;
}
