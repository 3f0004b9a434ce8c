// Flags that several commands share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli/flags.h"
#include "cli/log.h"
#include "engine/engine.h"
#include "exec/backend_choice.h"
#include "exec/open_model.h"

namespace bolide {

// -q, -v, --log-level, --log-file, --color, --no-progress
struct ConsoleOptions {
  LogOptions log;
  bool quiet = false, verbose = false, no_color = false, no_progress = false;
  void add_to(Flags& flags);
  // Starts the log; call it once the flags are parsed.
  void start();
};

// --model or --random-weights, --random-dtype, --random-seed
struct ModelOptions {
  std::string folder, random_shape, random_dtype = "bfloat16";
  uint64_t random_seed = 0;
  void add_to(Flags& flags);
  bool random() const { return !random_shape.empty(); }
  // Throws UsageError when neither is given.
  ModelSource source() const;
  // How results name the model: the folder or the shape file.
  const std::string& name() const { return random() ? random_shape : folder; }
};

// --device, --list-devices, --threads
struct DeviceOptions {
  BackendRequest request;
  std::string cpu_products = "float32";
  bool list = false;
  void add_to(Flags& flags);
  // --cpu-products, for commands that compute.
  void add_products_to(Flags& flags);
  BackendRequest backend_request() const;  // with the products asked for
  // Prints the devices when --list-devices asks for it; true if it did.
  bool listed() const;
};

// --kv-cache-dtype, --kv-cache-memory, --gpu-memory-utilization
struct MemoryOptions {
  std::string kv_cache_dtype = "auto", kv_cache_memory;
  double gpu_memory_utilization = EngineOptions{}.gpu_memory_utilization;
  void add_to(Flags& flags);
  void apply(EngineOptions& options) const;
};

// Throws ModelError with what to do when `folder` is none.
void require_folder(const std::string& folder);

}  // namespace bolide
