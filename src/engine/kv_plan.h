// How many tokens the KV cache holds and how long a sequence may become, from what is asked for and what memory is free.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"

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
  size_t weights_bytes = 0, workspace_bytes = 0;
  std::string device;  // "cuda:0"
};

struct KvPlan {
  int64_t ctx_size = 0;    // tokens per sequence
  std::string ctx_source;  // "from config.json", "--ctx-size", "what fits in memory"
  int32_t chunks = 0;      // hold at least one sequence of ctx_size
  std::vector<std::string> notes;
};

// A ctx_size that was asked for is never cut for memory: MemoryError names what fits. One that comes from the model is, with a note.
KvPlan plan_kv(const KvRequest& request);

}  // namespace bolide
