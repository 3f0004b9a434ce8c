#include "catch.h"
#include "exec/backend_choice.h"

using namespace bolide;

TEST_CASE("an explicit GPU that this build has no code for says so, and what to do") {
  CHECK(cuda_refusal(0, {}, {"GPU 0 is sm_75 and this build holds sm_80, sm_90"}) ==
        "cuda asked for, but GPU 0 is sm_75 and this build holds sm_80, sm_90. Use --device cpu, or rebuild with "
        "-DCMAKE_CUDA_ARCHITECTURES=75");
  CHECK(cuda_refusal(12, {"cuda:0"}, {"GPU 1 is sm_61 and this build holds sm_90a", "GPU 12 is sm_120 and this build holds sm_90a"}) ==
        "cuda asked for, but GPU 12 is sm_120 and this build holds sm_90a. Use --device cpu, or rebuild with "
        "-DCMAKE_CUDA_ARCHITECTURES=120");
}

TEST_CASE("an explicit GPU that is not there names those that are, or why there is none") {
  CHECK(cuda_refusal(3, {"cuda:0", "cuda:1"}, {}) ==
        "cuda:3 asked for, but the usable devices are cuda:0, cuda:1. Use one of them, or --device cpu");
  CHECK(
      cuda_refusal(3, {"cuda:0"}, {"GPU 1 is sm_61 and this build holds sm_90a"}) ==
      "cuda:3 asked for, but the usable devices are cuda:0 (GPU 1 is sm_61 and this build holds sm_90a). Use one of them, or --device cpu");
  CHECK(cuda_refusal(0, {}, {"no CUDA driver: CUDA driver version is insufficient"}) ==
        "cuda asked for, but no CUDA driver: CUDA driver version is insufficient. Use --device cpu");
  CHECK(cuda_refusal(0, {}, {}) == "cuda asked for, but no usable device. Use --device cpu");
}
