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

// --model, --revision, or --random-weights, --random-dtype, --random-seed
struct ModelOptions {
  std::optional<std::string> asked, revision;
  std::string folder;  // filled by resolve()
  std::string random_shape, random_dtype = "bfloat16";
  uint64_t random_seed = 0;
  bool offline = false;  // what is true anyway: nothing is ever fetched
  void add_to(Flags& flags);
  // Without random weights, for commands that need files of the folder.
  void add_folder_to(Flags& flags);
  bool random() const { return !random_shape.empty(); }
  // A model given as an argument wins over the environment. Throws UsageError beside --model or --random-weights.
  void take_positional(const std::string& argument, const Flags& flags);
  // Finds the folder: what was asked for, where that is one; else the snapshot of that name in the Hugging Face cache; where nothing was
  // asked for, the quickstart's model, with a note in the log. Call it once the log is started. Throws UsageError when there is nothing to
  // take, ModelError when the model is not on this machine.
  void resolve();
  // After resolve().
  ModelSource source() const;
  // How results name the model: as it was asked for, or by the shape file.
  const std::string& name() const { return random() ? random_shape : asked ? *asked : folder; }

 private:
  Flag add_model_to(Flags& flags);
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

// The model that scripts/quickstart.sh makes: models-local/smollm2-135m-instruct, in the working folder or else in the source folder that
// this program was built in (build/PRESET/bin/bolide). Nothing where neither holds one.
std::optional<std::string> quickstart_model();

}  // namespace bolide
