#include "cuda/check.h"

#include "core/error.h"

namespace bolide {
namespace {

std::string place(const CudaSite& site) { return site.layer < 0 ? std::string(site.op) : fmt::format("{}, layer {}", site.op, site.layer); }

}  // namespace

void throw_cuda(cudaError_t status, const char* what, const CudaSite& site) {
  const std::string text = fmt::format("CUDA: {} in {}: {} ({})", what, place(site), cudaGetErrorString(status), cudaGetErrorName(status));
  if (status == cudaErrorMemoryAllocation) throw MemoryError(text);
  throw Error(text);
}

void throw_contract(const char* what, const CudaSite& site) {
  throw Error(
      fmt::format("internal error in the CUDA backend, {}: {}. Please report it with the command that led here", place(site), what));
}

}  // namespace bolide
