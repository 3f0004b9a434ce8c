// What `inspect`, `plan` and `bench` know about a model without running it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cli/common_options.h"
#include "exec/backend_choice.h"
#include "model/model_config.h"

namespace bolide {

// What a command that describes a model without running it is asked for beside its own: MODEL or --model, the device, --output-format.
struct DescribeOptions {
  ModelOptions model;
  DeviceOptions device;
  ConsoleOptions console;
  std::string positional, output_format = "text";
  void add_to(Flags& flags);
  // Parses the arguments, starts the log and finds the model. False when the call only asked for --help, a list or the like, which is
  // printed then.
  bool start(Flags& flags, const Arguments& arguments);
  bool json() const { return output_format == "json"; }
};

struct ModelFacts {
  ModelConfig config;
  std::string source;                     // "model.safetensors", "3 shards", "random weights, seed 0"
  DType weights_dtype = DType::bf16;      // of the layers' products
  std::optional<DType> matrix_dtype;      // of all matrices, embeddings and head included; none where they differ
  std::map<std::string, int64_t> dtypes;  // dtype name to bytes
  int64_t weights_bytes = 0;
  std::vector<int32_t> eos_ids;          // config.json, generation_config.json and tokenizer_config.json together
  std::optional<std::string> tokenizer;  // its description
  std::vector<std::string> unread_tensors;
  std::vector<std::string> notes;
};

// Opens and checks everything of a folder but keeps nothing of its weights; of random weights only the shape is read.
ModelFacts model_facts(const ModelOptions& options);

// Bytes that one decode step of `sequences` sequences reads: every weight (of an embedding matrix that is no head, a row for each), and
// K and V of the `length` tokens of each in the cache (of a windowed layer, the window).
double decode_bytes(const ModelConfig& config, int64_t weights_bytes, DType weights, DType kv, double length, int32_t sequences);

// Bytes of K and V of `length` tokens in the cache (of a windowed layer, the window): what one decoded token reads.
double kv_bytes(const ModelConfig& config, DType kv, double length);

// What running it would take, for one shape of work on one device.
struct MemoryPlan {
  DeviceInfo device;
  std::string device_reason;
  int64_t ctx_size = 0;
  int32_t sequences = 1;
  DType kv_dtype = DType::f32;
  int64_t weights_bytes = 0, kv_bytes = 0;
  int64_t workspace_bytes = 0;  // activations, step inputs, logits and the backend's scratch
  int64_t limit_bytes = 0;      // what may be taken of the device's memory, kMemoryReserve included
  double utilization = 0;       // --gpu-memory-utilization; 0 where it does not count (the CPU)
  int64_t total() const { return weights_bytes + kv_bytes + workspace_bytes; }
  bool fits() const;
  // What loading would do: the context and the tokens of the KV cache it would settle on, or why it would refuse.
  int64_t load_ctx_size = 0, load_kv_tokens = 0;
  std::string load_error;
  std::vector<std::string> load_notes;
  // How decode steps will run; none where the device has one way alone.
  std::optional<DecodeForm> decode;
};
// options: those that loading would get. Throws UsageError for options outside their range.
MemoryPlan memory_plan(const ModelFacts& facts, const EngineOptions& options);

}  // namespace bolide
