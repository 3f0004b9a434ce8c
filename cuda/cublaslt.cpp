#include "cuda/cublaslt.h"

#include <dlfcn.h>

#include <string>
#include <vector>

#include "core/error.h"

namespace bolide {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what NVIDIA recommends for Hopper

cudaDataType_t cuda_type(DType dtype) { return dtype == DType::f32 ? CUDA_R_32F : dtype == DType::f16 ? CUDA_R_16F : CUDA_R_16BF; }

void* open_library() {
  const std::string name = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
  std::string tried;
  for (const std::string& path : {name, std::string(BOLIDE_CUDA_LIBRARY_DIR "/") + name, "/usr/local/cuda/lib64/" + name}) {
    if (void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    tried += (tried.empty() ? "" : ", ") + path;
  }
  throw Error(
      fmt::format("CUDA: cannot load cuBLASLt (tried {}). Install the cuBLAS package of CUDA {}, set LD_LIBRARY_PATH to its folder, "
                  "or use --device cpu",
                  tried, CUBLAS_VER_MAJOR));
}

}  // namespace

// The functions used, by the types of the header they were compiled against.
struct CublasLt::Library {
  void* handle = open_library();
#define BOLIDE_CUBLASLT(member, symbol) decltype(&symbol) member = load<decltype(&symbol)>(#symbol)
  BOLIDE_CUBLASLT(create, cublasLtCreate);
  BOLIDE_CUBLASLT(destroy, cublasLtDestroy);
  BOLIDE_CUBLASLT(status_string, cublasLtGetStatusString);
  BOLIDE_CUBLASLT(desc_create, cublasLtMatmulDescCreate);
  BOLIDE_CUBLASLT(desc_destroy, cublasLtMatmulDescDestroy);
  BOLIDE_CUBLASLT(desc_set, cublasLtMatmulDescSetAttribute);
  BOLIDE_CUBLASLT(layout_create, cublasLtMatrixLayoutCreate);
  BOLIDE_CUBLASLT(layout_destroy, cublasLtMatrixLayoutDestroy);
  BOLIDE_CUBLASLT(preference_create, cublasLtMatmulPreferenceCreate);
  BOLIDE_CUBLASLT(preference_destroy, cublasLtMatmulPreferenceDestroy);
  BOLIDE_CUBLASLT(preference_set, cublasLtMatmulPreferenceSetAttribute);
  BOLIDE_CUBLASLT(heuristic, cublasLtMatmulAlgoGetHeuristic);
  BOLIDE_CUBLASLT(matmul, cublasLtMatmul);
#undef BOLIDE_CUBLASLT

  // The library stays loaded: other backends of the process may use it, and unloading CUDA libraries is not safe at exit.
  template <class F>
  F load(const char* symbol) {
    void* address = dlsym(handle, symbol);
    if (!address)
      throw Error(
          fmt::format("CUDA: {} is missing from libcublasLt.so.{}. Install the cuBLAS of the same CUDA version", symbol, CUBLAS_VER_MAJOR));
    return reinterpret_cast<F>(address);
  }
  void check(cublasStatus_t status, const char* what, const CudaSite& site) const {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    throw Error(fmt::format("cuBLASLt: {} in {}, layer {}: {}", what, site.op, site.layer, status_string(status)));
  }
};

struct CublasLt::Plan {
  const Library& library;
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, d = nullptr;
  cublasLtMatmulAlgo_t algorithm = {};
  size_t workspace_bytes = 0;
  bool found = false;

  explicit Plan(const Library& lib) : library(lib) {}
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    if (d) library.layout_destroy(d);
    if (x) library.layout_destroy(x);
    if (w) library.layout_destroy(w);
    if (desc) library.desc_destroy(desc);
  }
};

CublasLt::CublasLt(int device) {
  const CudaSite site{"start"};
  // Here and not beside: the device's free memory is asked for as soon as the backend is made.
  check_cuda(cudaMalloc(&workspace_, kWorkspaceBytes), "cuBLASLt workspace", site);
  loaded_ = std::async(std::launch::async, [this, device, site] {
              library_ = std::make_unique<Library>();
              check_cuda(cudaSetDevice(device), "cudaSetDevice", site);
              library_->check(library_->create(&handle_), "cublasLtCreate", site);
            }).share();
}

CublasLt::~CublasLt() {
  loaded_.wait();
  plans_.clear();
  if (handle_) library_->destroy(handle_);
  cudaFree(workspace_);
}

CublasLt::Plan& CublasLt::plan(const GemmShape& s, const CudaSite& site) {
  auto& slot = plans_[s.key()];
  if (slot) return *slot;
  const Library& lib = *library_;
  auto plan = std::make_unique<Plan>(lib);
  const cudaDataType_t type = cuda_type(s.dtype);
  // COMPUTE_32F is true float32 for float32 operands: TF32 has its own compute type, which is not asked for.
  lib.check(lib.desc_create(&plan->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "descriptor", site);
  const cublasOperation_t transposed = CUBLAS_OP_T;
  lib.check(lib.desc_set(plan->desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)), "descriptor", site);
  lib.check(lib.layout_create(&plan->w, type, s.k, s.n, s.w_stride), "layout", site);
  lib.check(lib.layout_create(&plan->x, type, s.k, s.m, s.x_stride), "layout", site);
  lib.check(lib.layout_create(&plan->d, CUDA_R_32F, s.n, s.m, s.d_stride), "layout", site);

  cublasLtMatmulPreference_t preference = nullptr;
  lib.check(lib.preference_create(&preference), "preference", site);
  const std::pair<cublasLtMatmulPreferenceAttributes_t, int> alignments[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, s.w_alignment},
                                                                             {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, s.x_alignment},
                                                                             {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, s.d_alignment},
                                                                             {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, s.d_alignment}};
  lib.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspaceBytes, sizeof(kWorkspaceBytes));
  for (const auto& [attribute, bytes] : alignments) {
    const auto value = static_cast<uint32_t>(bytes);
    lib.preference_set(preference, attribute, &value, sizeof(value));
  }
  cublasLtMatmulHeuristicResult_t result = {};
  int results = 0;
  const cublasStatus_t status = lib.heuristic(handle_, plan->desc, plan->w, plan->x, plan->d, plan->d, preference, 1, &result, &results);
  lib.preference_destroy(preference);
  plan->found = status == CUBLAS_STATUS_SUCCESS && results > 0;
  if (plan->found) {
    plan->algorithm = result.algo;
    plan->workspace_bytes = result.workspaceSize;
  }
  slot = std::move(plan);
  return *slot;
}

bool CublasLt::gemm(const GemmShape& shape, const void* w, const void* x, float* d, cudaStream_t stream, const CudaSite& site) {
  ready();
  Plan& p = plan(shape, site);
  if (!p.found) return false;
  const float alpha = 1.0f, beta = shape.accumulate ? 1.0f : 0.0f;
  library_->check(
      library_->matmul(handle_, p.desc, &alpha, w, p.w, x, p.x, &beta, d, p.d, d, p.d, &p.algorithm, workspace_, kWorkspaceBytes, stream),
      "cublasLtMatmul", site);
  return true;
}

}  // namespace bolide
