// How many tokens the KV cache holds and how long a sequence may become, from what is asked for and what memory is free.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "engine/engine.h"

namespace bolide {

struct KvRequest {
  int64_t ctx_size = 0;       // asked for; 0 = the model's context
  int64_t model_context = 0;  // config.json
  int32_t max_num_seqs = 1;
  int32_t chunk_tokens = 64;  // C
  size_t kv_cache_bytes = 0;  // asked for; 0 = as much as ctx_size * max_num_seqs needs, bounded by free memory
  size_t bytes_per_token = 0;
  DType kv_dtype = DType::f32;
  size_t free_bytes = 0;  // on the device, before weights
  // Of which weights, workspace, reserve and KV cache may take this much; memory_limit() says how much that is.
  size_t limit_bytes = 0;
  double utilization = 0;  // --gpu-memory-utilization; 0: the device knows no such limit
  size_t total_bytes = 0;  // of the device, for messages
  size_t weights_bytes = 0, workspace_bytes = 0;
  std::string device;  // "cuda:0"
};

// Kept free for the rest of the program: captured steps, the libraries' own memory, fragments.
constexpr size_t kMemoryReserve = size_t{64} << 20;

// The bytes free on the device, on a GPU at most `utilization` of its total memory.
size_t memory_limit(const DeviceInfo& device, double utilization);

// C of an engine with these options: chunk_tokens, less where whole pieces (EngineOptions::deterministic) would find no room in a step.
int32_t piece_tokens(const EngineOptions& options);

// Entries of a step that a prefill cut into whole pieces (EngineOptions::deterministic) takes at most, beyond one for each sequence.
int32_t whole_pieces_of(const EngineOptions& options, int32_t chunk_tokens);

// A step's upper bounds and the memory that a model needs on a backend, before anything is read or allocated.
struct MemoryNeeds {
  StepCapacity capacity;
  DType kv_dtype = DType::f32;
  KvRequest request;  // for plan_kv
};
MemoryNeeds memory_needs(const ModelConfig& config, size_t weights_bytes, DType weights_dtype, const EngineOptions& options,
                         const Backend& backend, const DeviceInfo& device);

struct KvPlan {
  int64_t ctx_size = 0;    // tokens per sequence
  std::string ctx_source;  // "from config.json", "--ctx-size", "what fits in memory"
  int32_t chunks = 0;      // hold at least one sequence of ctx_size
  std::vector<std::string> notes;
};

// A ctx_size that was asked for is never cut for memory: MemoryError names what fits. One that comes from the model is, with a note.
KvPlan plan_kv(const KvRequest& request);

}  // namespace bolide
