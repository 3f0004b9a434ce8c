// Flags that several commands share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli/flags.h"
#include "cli/log.h"
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
  bool list = false;
  void add_to(Flags& flags);
  // Prints the devices when --list-devices asks for it; true if it did.
  bool listed() const;
};

// Throws ModelError with what to do when `folder` is none.
void require_folder(const std::string& folder);

}  // namespace bolide
