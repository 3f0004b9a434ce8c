#include "exec/backend_choice.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <optional>
#include <string_view>

#include "core/error.h"
#include "core/messages.h"
#include "cpu/cpu_backend.h"
#if BOLIDE_HAS_CUDA
#include "cuda/cuda_backend.h"
#endif

namespace bolide {
namespace {

ChosenBackend cpu(const BackendRequest& request, const std::string& why) {
  CpuOptions options;
  options.threads = request.threads;
  options.bf16_products = request.bf16_products;
  return {make_cpu_backend(options), why.empty() ? "cpu" : "cpu: " + why};
}

// N of "cuda:N", 0 for "cuda"; nothing for other text.
std::optional<int> cuda_index(std::string_view device) {
  if (device == "cuda") return 0;
  constexpr std::string_view prefix = "cuda:";
  if (device.substr(0, prefix.size()) != prefix) return std::nullopt;
  const std::string_view digits = device.substr(prefix.size());
  int index = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  if (error != std::errc() || end != digits.data() + digits.size() || index < 0) return std::nullopt;
  return index;
}

#if BOLIDE_HAS_CUDA

ChosenBackend explicit_cuda(int index) {
  const CudaDevices found = cuda_devices();
  const std::string id = fmt::format("cuda:{}", index);
  for (const DeviceInfo& device : found.devices) {
    if (device.id == id) return {make_cuda_backend(index), id + ": asked for"};
  }
  std::vector<std::string> ids;
  for (const DeviceInfo& device : found.devices) ids.push_back(device.id);
  throw Error(cuda_refusal(index, ids, found.problems));
}

ChosenBackend automatic(const BackendRequest& request) {
  const CudaDevices found = cuda_devices();
  if (found.devices.empty()) {
    return cpu(request, found.problems.empty() ? "no CUDA device" : fmt::format("{}", fmt::join(found.problems, "; ")));
  }
  const DeviceInfo& device = found.devices.front();
  return {make_cuda_backend(cuda_index(device.id).value_or(0)), device.id + ": first usable CUDA device"};
}

#else

[[noreturn]] ChosenBackend explicit_cuda(int) {
  throw Error("cuda asked for, but this build holds no CUDA backend. Rebuild with -DBOLIDE_CUDA=ON, or use --device cpu");
}

ChosenBackend automatic(const BackendRequest& request) { return cpu(request, "this build holds no CUDA backend"); }

#endif

}  // namespace

std::string cuda_refusal(int index, const std::vector<std::string>& usable, const std::vector<std::string>& problems) {
  const std::string wrong_code = fmt::format("GPU {} is sm_", index);
  for (const std::string& problem : problems) {
    if (!problem.starts_with(wrong_code)) continue;
    const std::string rest = problem.substr(wrong_code.size());
    return fmt::format("cuda asked for, but {}. Use --device cpu, or rebuild with -DCMAKE_CUDA_ARCHITECTURES={}", problem,
                       rest.substr(0, rest.find_first_not_of("0123456789")));
  }
  const std::string all = fmt::format("{}", fmt::join(problems, "; "));
  if (usable.empty()) return fmt::format("cuda asked for, but {}. Use --device cpu", all.empty() ? "no usable device" : all);
  return fmt::format("cuda:{} asked for, but the usable devices are {}{}. Use one of them, or --device cpu", index, fmt::join(usable, ", "),
                     all.empty() ? "" : " (" + all + ")");
}

ChosenBackend choose_backend(const BackendRequest& request) {
  if (request.bf16_products && request.device != "cpu") {
    throw UsageError(
        fmt::format("--cpu-products bfloat16 is for the CPU, and the device is {}. Add --device cpu", in_quotes(request.device)));
  }
  if (request.threads < 0) throw UsageError(fmt::format("--threads {} is below 0 (0 = as many as the machine allows)", request.threads));
  if (request.device == "auto") return automatic(request);
  if (request.device == "cpu") return cpu(request, "");
  if (const std::optional<int> index = cuda_index(request.device)) return explicit_cuda(*index);
  throw UsageError(fmt::format("--device {} is unknown. Use auto, cpu, cuda or cuda:N", in_quotes(request.device)));
}

std::vector<DeviceInfo> list_devices() {
  std::vector<DeviceInfo> devices;
#if BOLIDE_HAS_CUDA
  devices = cuda_devices().devices;
#endif
  devices.push_back(make_cpu_backend({})->info());
  return devices;
}

std::vector<std::string> device_problems() {
#if BOLIDE_HAS_CUDA
  return cuda_devices().problems;
#else
  return {"this build holds no CUDA backend. Rebuild with -DBOLIDE_CUDA=ON where a GPU is to be used"};
#endif
}

std::vector<std::pair<std::string, std::string>> backend_libraries() { return {{"Highway", highway_version()}}; }

std::vector<std::string> backend_descriptions() {
  std::vector<std::string> lines;
#if BOLIDE_HAS_CUDA
  lines.push_back("cuda: " + cuda_build_description());
#else
  lines.push_back("cuda: not in this build");
#endif
  lines.push_back("cpu: " + cpu_simd_description());
  return lines;
}

}  // namespace bolide
