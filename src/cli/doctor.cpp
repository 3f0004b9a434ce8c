// bolide doctor: what this program finds on this machine, and what is missing.
#include <fmt/ranges.h>
#include <spdlog/version.h>

#include <CLI/Version.hpp>
#include <algorithm>
#include <filesystem>
#include <fstream>

#include "cli/command.h"
#include "cli/common_options.h"
#include "cli/json.h"
#include "cli/streams.h"
#include "core/build_info.h"
#include "core/cpu_features.h"
#include "core/cpu_limits.h"
#include "core/human.h"
#include "core/thread_pool.h"
#include "io/hub_cache.h"
#include "text/text_libraries.h"

namespace bolide {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kHelp = R"(Usage: bolide doctor [FLAGS]
Tells what this program finds on this machine (devices, driver, processor, threads and why so
many, memory, libraries, models) and what is missing. It needs neither a GPU nor a model.

Output    --output-format text|json
Console   -q  -v  --log-level L  --log-file F  --color auto|always|never, --no-color  --no-progress
          --show-config  --list-flags  --version  -h, --help

Example
  bolide doctor
)";

constexpr int kSchemaVersion = 1;
constexpr const char* kDriverFile = "/proc/driver/nvidia/version";

struct Found {
  BuildInfo build = build_info();
  std::vector<std::string> backends = backend_descriptions();
  std::vector<DeviceInfo> devices = list_devices();
  std::string chosen;  // why the automatic choice falls on its device
  std::string driver;  // of NVIDIA, as the kernel module or the device says; empty: none
  CpuFacts cpu = cpu_facts("/");
  int cpus_allowed = static_cast<int>(affinity_cpus().size());
  int cores = physical_cores("/", affinity_cpus());
  std::optional<double> quota = cgroup_cpu_quota("/");
  std::optional<uint64_t> cgroup_memory = cgroup_memory_left("/");
  ThreadBudget threads = default_threads();
  std::vector<std::pair<std::string, std::string>> libraries;
  fs::path hub = hub_cache_folder();
  std::vector<std::string> hub_models;
  std::optional<std::string> quickstart = quickstart_model();
  std::vector<std::string> missing;
};

// "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue ...": the first word that looks like 580.95.05.
std::string kernel_module_version() {
  std::ifstream file(kDriverFile);
  for (std::string word; file >> word;) {
    if (word.find('.') != std::string::npos && word.find_first_not_of("0123456789.") == std::string::npos) return word;
  }
  return "";
}

std::vector<std::pair<std::string, std::string>> all_libraries() {
  auto libraries = text_libraries();
  for (auto& library : backend_libraries()) libraries.push_back(std::move(library));
  libraries.emplace_back("fmt", fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100));
  libraries.emplace_back("spdlog", fmt::format("{}.{}.{}", SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH));
  libraries.emplace_back("nlohmann-json",
                         fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH));
  libraries.emplace_back("CLI11", CLI11_VERSION);
  return libraries;
}

// "Org/Name" for each models--Org--Name.
std::vector<std::string> models_in(const fs::path& hub) {
  constexpr std::string_view kPrefix = "models--";
  std::vector<std::string> names;
  std::error_code failed;
  for (fs::directory_iterator it(hub, failed), end; !failed && it != end; it.increment(failed)) {
    std::string name = it->path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    name.erase(0, kPrefix.size());
    if (const size_t dashes = name.find("--"); dashes != std::string::npos) name.replace(dashes, 2, "/");
    names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Devices hold back what costs a context; here it is asked for, and what goes wrong is told.
void ask_devices(Found& found) {
  for (DeviceInfo& device : found.devices) {
    if (device.id == "cpu") continue;
    try {
      const ChosenBackend chosen = choose_backend({device.id, 0, false});
      device = chosen.backend->info();
      if (const std::string driver = chosen.backend->state().driver; !driver.empty()) found.driver = driver;
    } catch (const Error& error) {
      found.missing.push_back(fmt::format("{}: {}", device.id, error.what()));
    }
  }
  try {
    found.chosen = choose_backend({}).reason;
  } catch (const Error& error) {
    found.chosen = error.what();
  }
}

Found look_around() {
  Found found;
  found.driver = kernel_module_version();
  ask_devices(found);
  found.libraries = all_libraries();
  found.hub_models = models_in(found.hub);
  for (const std::string& problem : device_problems()) found.missing.push_back(problem);
  if (found.driver.empty()) found.missing.push_back(fmt::format("no NVIDIA driver: {} is absent. The CPU does the work", kDriverFile));
  if (found.threads.threads < found.cores && found.quota)
    found.missing.push_back(fmt::format("the cgroup's quota of {:.1f} CPUs keeps {} of {} cores idle", *found.quota,
                                        found.cores - found.threads.threads, found.cores));
  if (!found.quickstart && found.hub_models.empty())
    found.missing.emplace_back("no model: scripts/quickstart.sh gets a small one, 'hf download Org/Name' any other");
  return found;
}

Json report_json(const Found& f) {
  Json devices = Json::array(), libraries = Json::object();
  for (const DeviceInfo& d : f.devices)
    devices.push_back({{"id", d.id}, {"name", d.name}, {"memory_total_bytes", d.memory_total}, {"memory_free_bytes", d.memory_free}});
  for (const auto& [name, version] : f.libraries) libraries[name] = version.empty() ? Json() : Json(version);
  return {{"schema_version", kSchemaVersion},
          {"version", f.build.version},
          {"commit", f.build.commit},
          {"compiler", f.build.compiler},
          {"build_type", f.build.build_type},
          {"backends", f.backends},
          {"devices", std::move(devices)},
          {"automatic_device", f.chosen},
          {"nvidia_driver", f.driver.empty() ? Json() : Json(f.driver)},
          {"cpu",
           {{"name", f.cpu.name},
            {"features", f.cpu.features},
            {"cpus_allowed", f.cpus_allowed},
            {"physical_cores", f.cores},
            {"cgroup_quota", f.quota ? Json(*f.quota) : Json()}}},
          {"threads", {{"count", f.threads.threads}, {"reason", f.threads.reason}}},
          {"cgroup_memory_left_bytes", f.cgroup_memory ? Json(*f.cgroup_memory) : Json()},
          {"libraries", std::move(libraries)},
          {"hub_cache", {{"folder", f.hub.string()}, {"models", f.hub_models}}},
          {"quickstart_model", f.quickstart ? Json(*f.quickstart) : Json()},
          {"missing", f.missing}};
}

std::string report_text(const Found& f) {
  std::string text = fmt::format("bolide {} (commit {}, {}, {})\n", f.build.version, f.build.commit, f.build.compiler, f.build.build_type);
  const auto row = [&](std::string_view label, const std::string& value) { text += fmt::format("{:<14} {}\n", label, value); };
  const auto rows = [&](std::string_view label, const std::vector<std::string>& values) {
    for (size_t i = 0; i < values.size(); ++i) row(i == 0 ? label : "", values[i]);
  };
  std::vector<std::string> devices, libraries;
  for (const DeviceInfo& d : f.devices)
    devices.push_back(fmt::format("{:<8} {}, {} free of {}", d.id, d.name, human_bytes(d.memory_free), human_bytes(d.memory_total)));
  for (const auto& [name, version] : f.libraries)
    libraries.push_back(fmt::format("{} {}", name, version.empty() ? "(does not say)" : version));
  rows("backends", f.backends);
  rows("devices", devices);
  row("chosen", f.chosen);
  row("NVIDIA driver", f.driver.empty() ? "none" : f.driver);
  row("processor", fmt::format("{}: {}", f.cpu.name.empty() ? "unnamed" : f.cpu.name, fmt::join(f.cpu.features, " ")));
  row("threads", fmt::format("{}: {}", f.threads.threads, f.threads.reason));
  row("", fmt::format("affinity mask {} CPUs, {} physical cores, cgroup quota {}", f.cpus_allowed, f.cores,
                      f.quota ? fmt::format("{:.1f} CPUs", *f.quota) : "none"));
  row("cgroup memory", f.cgroup_memory ? human_bytes(*f.cgroup_memory) + " left" : "no limit");
  row("libraries", fmt::format("{}", fmt::join(libraries, ", ")));
  std::error_code ignored;
  const bool there = fs::is_directory(f.hub, ignored);
  row("model cache", fmt::format("{}: {}", f.hub.string(),
                                 !there                 ? "not there"
                                 : f.hub_models.empty() ? "no models"
                                                        : fmt::format("{}", fmt::join(f.hub_models, ", "))));
  row("quickstart", f.quickstart.value_or("not there"));
  rows("missing", f.missing.empty() ? std::vector<std::string>{"nothing"} : f.missing);
  return text;
}

}  // namespace

ExitCode run_doctor(const Arguments& arguments) {
  ConsoleOptions console;
  std::string output_format = "text";
  Flags flags("doctor", kHelp);
  flags.value("--output-format", output_format).one_of({"text", "json"});
  console.add_to(flags);
  if (!flags.parse(arguments)) return ExitCode::ok;
  console.start();
  const Found found = look_around();
  ResultStream out;
  out.write(output_format == "json" ? json_text(report_json(found)) + "\n" : report_text(found));
  out.finish();
  return ExitCode::ok;
}

}  // namespace bolide
