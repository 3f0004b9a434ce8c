// The decode kernel's blocks wait for each other's words alone: whatever the times at which its warps come to their phases, and the stream
// to its stages, tokens and logits are the same bits.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <vector>

#include "catch.h"
#include "cuda/check.h"
#include "cuda/decode/decode_step.h"
#include "cuda/memory.h"
#include "cuda/scratch.h"
#include "delayed_kernel.h"
#include "gpu.h"
#include "step_model.h"

using namespace bolide;
using namespace bolide::cuda_test;

namespace {

// A stream with the delayed kernel, beside the backend that has the weights and the cache.
class DelayedSteps {
 public:
  DelayedSteps(const StepCapacity& capacity, const ModelDims& dims) : steps_(0, delayed_shapes()) {
    cudaDeviceProp properties{};
    check_cuda(cudaGetDeviceProperties(&properties, 0), "device properties", {"test"});
    context_.multiprocessors = properties.multiProcessorCount;
    context_.compute_capability = 10 * properties.major + properties.minor;
    context_.dependent_launch = properties.major >= 9;
    context_.copy_pace = 85;
    context_.activations = DType::bf16;
    check_cuda(cudaStreamCreateWithFlags(&context_.stream, cudaStreamNonBlocking), "stream", {"test"});
    context_.scratch.sampling_bytes = scratch_sizes(capacity, dims, context_).sampling;
    sampling_ = std::make_unique<CudaBuffer>(context_.scratch.sampling_bytes, 0, "test");
    context_.scratch.sampling = static_cast<float*>(sampling_->data());
    void* fault = nullptr;
    check_cuda(cudaHostAlloc(&fault, sizeof(DeviceFault), cudaHostAllocMapped), "pinned host memory", {"test"});
    context_.fault = new (fault) DeviceFault{};
  }
  ~DelayedSteps() {
    cudaStreamSynchronize(context_.stream);
    cudaStreamDestroy(context_.stream);
    cudaFreeHost(context_.fault);
  }
  void run(const Step& step) {
    context_.capacity = step.capacity;
    REQUIRE(steps_.enqueue(context_, step));
    check_cuda(cudaStreamSynchronize(context_.stream), "cudaStreamSynchronize", {"test"});
    REQUIRE(context_.fault->code == DeviceFault::none);
  }

 private:
  CudaContext context_;
  DecodeSteps steps_;
  std::unique_ptr<CudaBuffer> sampling_;
};

template <class Run>
double seconds_of(Run&& run) {
  const auto begin = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

struct Results {
  std::vector<std::vector<float>> logits;
  std::vector<int32_t> tokens;
};
Results results_of(StepModel& model, size_t rows) {
  Results results;
  for (size_t i = 0; i < rows; ++i) {
    results.logits.push_back(model.logits(static_cast<int32_t>(i)));
    results.tokens.push_back(model.token(static_cast<int32_t>(i)));
  }
  return results;
}

}  // namespace

TEST_CASE("decode kernel: random delays change no bit") {
  const char* name = "decode kernel: random delays change no bit";
  const auto backend = gpu(name);
  if (!backend) return;
  StepModelOptions options;
  options.dims = {1024, 3072, 3, 16, 8, 128, 1096};
  options.rows = 64;
  options.chunk = 64;
  options.chunks = 20;
  options.sequences = 4;
  options.vectors = true;
  options.window = 300;
  StepModel model(*backend, options);
  const std::vector<int32_t> last{1279, 31, 700, 513};
  for (int32_t s = 0; s < 4; ++s) {
    const int32_t end = last[static_cast<size_t>(s)];
    for (int32_t first = 0; first < end; first += 64) {
      model.fill(first, std::min(64, end - first), {}, s);
      backend->Backend::run_step(model.step);
    }
  }
  model.fill(0, 1);
  const std::string form = backend->step_form(model.single, 1).text;
  if (form.rfind("one kernel", 0) != 0) {
    std::printf("skipped: %s (the step runs as %s)\n", name, form.c_str());
    return;
  }
  DelayedSteps delayed(model.step.capacity, options.dims);
  model.each.capacity.tokens = 4;
  for (const std::vector<int32_t>& which : std::vector<std::vector<int32_t>>{{0}, {0, 1, 2, 3}, {3, 1}, {2}, {1, 0, 2}}) {
    std::vector<int32_t> positions;
    for (const int32_t s : which) positions.push_back(last[static_cast<size_t>(s)]);
    model.fill_each(which, positions, std::vector<SamplingSpec>(which.size()));
    const Step& step = which.size() == 1 ? model.single : model.each;
    backend->run_step(step);
    backend->sync();
    const Results expected = results_of(model, which.size());
    double plain = 1e9, slow = 1e9;
    for (int i = 0; i < 40; ++i) {
      plain = std::min(plain, seconds_of([&] {
                         backend->run_step(step);
                         backend->sync();
                       }));
      slow = std::min(slow, seconds_of([&] { delayed.run(step); }));
      const Results results = results_of(model, which.size());
      CAPTURE(which, i);
      for (size_t row = 0; row < which.size(); ++row) REQUIRE(same_bits(results.logits[row], expected.logits[row]));
      REQUIRE(results.tokens == expected.tokens);
    }
    CHECK(slow > 1.3 * plain);  // the delays are there
  }
}
