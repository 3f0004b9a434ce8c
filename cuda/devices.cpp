// What the driver says about this machine's GPUs, and whether this build's code runs on them.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cctype>
#include <sstream>

#include "core/error.h"
#include "cuda/architectures.h"
#include "cuda/cuda_backend.h"
#include "cuda/memory.h"

namespace bolide {
namespace {

// Names of the environment that commonly explain a missing device.
std::string visibility_note() {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  return visible ? fmt::format(" (CUDA_VISIBLE_DEVICES is '{}')", visible) : "";
}

}  // namespace

Architectures::Architectures(const std::string& cmake_list) {
  std::istringstream list(cmake_list);
  for (std::string item; std::getline(list, item, ',');) {
    Entry entry;
    size_t at = 0;
    while (at < item.size() && std::isdigit(static_cast<unsigned char>(item[at]))) entry.number = entry.number * 10 + (item[at++] - '0');
    if (at < item.size() && std::isalpha(static_cast<unsigned char>(item[at])) && at > 0) entry.suffix = item[at++];
    entry.ptx = item.find("-real") == std::string::npos;
    entry.name = entry.number == 0 ? item : fmt::format("sm_{}{}", entry.number, entry.suffix ? std::string(1, entry.suffix) : "");
    entries_.push_back(entry);
  }
}

bool Architectures::runs_on(int major, int minor) const {
  const int device = 10 * major + minor;
  for (const Entry& e : entries_) {
    if (e.number == 0) return true;
    if (e.suffix == 'a') {
      if (e.number == device) return true;
    } else if (e.number <= device && (e.number / 10 == major || (e.ptx && e.suffix == 0))) {
      return true;
    }
  }
  return false;
}

bool Architectures::holds(const std::string& name) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.name == name; });
}

std::string Architectures::text() const {
  std::string all;
  for (const Entry& e : entries_) all += (all.empty() ? "" : ", ") + e.name;
  return all;
}

const Architectures& compiled_architectures() {
  static const Architectures architectures(BOLIDE_CUDA_ARCHITECTURES);
  return architectures;
}

CudaDevices cuda_devices() {
  CudaDevices found;
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    cudaGetLastError();
    const char* text = cudaGetErrorString(status);
    if (status == cudaErrorNoDevice) {
      found.problems.push_back(fmt::format("no CUDA device: {}{}", text, visibility_note()));
    } else {
      int driver = 0;
      cudaDriverGetVersion(&driver);
      found.problems.push_back(
          driver == 0 ? fmt::format("no CUDA driver: {}", text)
                      : fmt::format("the CUDA driver does not serve this build (driver CUDA {}.{}, built with {}.{}): {}", driver / 1000,
                                    driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10, text));
    }
    return found;
  }
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties{};
    if (const cudaError_t error = cudaGetDeviceProperties(&properties, i); error != cudaSuccess) {
      cudaGetLastError();
      found.problems.push_back(fmt::format("GPU {}: {}", i, cudaGetErrorString(error)));
      continue;
    }
    if (!compiled_architectures().runs_on(properties.major, properties.minor)) {
      found.problems.push_back(
          fmt::format("GPU {} is sm_{}{} and this build holds {}", i, properties.major, properties.minor, compiled_architectures().text()));
      continue;
    }
    // Free memory wants a context, which costs 0.1 s and more: make_cuda_backend's info() has it.
    found.devices.push_back({cuda_device_id(i), properties.name, properties.totalGlobalMem, 0});
  }
  if (count == 0) found.problems.push_back("no CUDA device" + visibility_note());
  return found;
}

std::string cuda_build_description() {
  std::string architectures = compiled_architectures().text();
  for (size_t at; (at = architectures.find(',')) != std::string::npos;) architectures.erase(at, 1);
  return fmt::format("CUDA {}.{}, compiled for {}", CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10, architectures);
}

}  // namespace bolide
