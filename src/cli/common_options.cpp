#include "cli/common_options.h"

#include "cli/streams.h"
#include "cli/values.h"
#include "core/human.h"
#include "core/messages.h"

namespace bolide {

void ConsoleOptions::add_to(Flags& flags) {
  flags.flag("-q,--quiet", quiet);
  flags.flag("-v,--verbose", verbose);
  flags.value("--log-level", log.level).one_of({"error", "warning", "info", "debug", "trace"});
  flags.value("--log-file", log.file);
  flags.value("--color", log.color).one_of({"auto", "always", "never"});
  flags.flag("--no-color", no_color);
  flags.flag("--no-progress", no_progress);
}

void ConsoleOptions::start() {
  if (quiet)
    log.level = "error";
  else if (verbose && log.level == "info")
    log.level = "debug";
  if (no_color) log.color = "never";
  start_logging(log);
}

void DeviceOptions::add_to(Flags& flags) {
  flags.value("--device", request.device);
  flags.alias("-dev", "--device");
  flags.value("-t,--threads", request.threads).in_range(0, 4096);
  flags.not_from_environment(flags.flag("--list-devices", list));
}

void DeviceOptions::add_products_to(Flags& flags) {
  const Flag products = flags.value("--cpu-products", cpu_products);
  products.one_of({"float32", "bfloat16"});
}

BackendRequest DeviceOptions::backend_request() const {
  BackendRequest wanted = request;
  wanted.bf16_products = cpu_products == "bfloat16";
  return wanted;
}

bool DeviceOptions::listed() const {
  if (!list) return false;
  ResultStream out;
  for (const DeviceInfo& device : list_devices()) {
    // A GPU's free memory is left unknown (0) here: asking for it takes a context on the device.
    const std::string free = device.memory_free > 0 ? human_bytes(device.memory_free) + " free of " : "";
    out.write(fmt::format("{:<8} {}, {}{}\n", device.id, device.name, free, human_bytes(device.memory_total)));
  }
  out.finish();
  return true;
}

void MemoryOptions::add_to(Flags& flags) {
  flags.value("--kv-cache-dtype", kv_cache_dtype);
  flags.alias("-ctk", "--kv-cache-dtype");
  flags.alias("-ctv", "--kv-cache-dtype");
  flags.value("--kv-cache-memory", kv_cache_memory);
  flags.value("--gpu-memory-utilization", gpu_memory_utilization);
}

void MemoryOptions::apply(EngineOptions& options) const {
  options.kv_dtype = parse_dtype_flag("--kv-cache-dtype", kv_cache_dtype);
  options.kv_cache_bytes = kv_cache_memory.empty() ? 0 : parse_bytes("--kv-cache-memory", kv_cache_memory);
  options.gpu_memory_utilization = gpu_memory_utilization;
}

}  // namespace bolide
