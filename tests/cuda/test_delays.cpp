// The decode kernel's blocks wait for each other's words alone: whatever the times at which its warps come to their phases, and the stream
// to its stages, tokens and logits are the same bits.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include "catch.h"
#include "cuda/check.h"
#include "cuda/decode/decode_step.h"
#include "cuda/decode/mailbox.h"
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
  DelayedSteps(const StepCapacity& capacity, const ModelDims& dims, const std::vector<decode::CompiledShape>& shapes = delayed_shapes())
      : steps_(0, shapes) {
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
    check_cuda(cudaStreamCreateWithFlags(&uploads_, cudaStreamNonBlocking), "stream", {"test"});
    check_cuda(cudaEventCreateWithFlags(&uploaded_, cudaEventDisableTiming), "event", {"test"});
    staging_ = std::make_unique<Staging>(uploads_, 4096);
    mailbox_ = std::make_unique<DecodeMailbox>(context_, uploads_, *staging_, uploaded_, [] {});
    run_on_ = std::make_unique<RunOn>(*mailbox_);
  }
  ~DelayedSteps() {
    cudaStreamSynchronize(context_.stream);
    run_on_.reset();
    mailbox_.reset();
    staging_.reset();
    cudaEventDestroy(uploaded_);
    cudaStreamDestroy(uploads_);
    cudaStreamDestroy(context_.stream);
    cudaFreeHost(context_.fault);
  }
  void run(const Step& step) {
    context_.capacity = step.capacity;
    REQUIRE(steps_.enqueue(context_, step));
    check_cuda(cudaStreamSynchronize(context_.stream), "cudaStreamSynchronize", {"test"});
    REQUIRE(context_.fault->code == DeviceFault::none);
  }
  // The same step so many times by as few kernels as will do it; how many those were. late: microseconds from a token to the step after the
  // next, at most.
  int64_t run_on(const Step& step, int times, int late) {
    const int64_t before = run_on_->launches();
    uint32_t last = 0;
    for (int i = 0; i < times; ++i) {
      if (i > 1) REQUIRE(run_on_->wait(last - 1) >= 0);
      const auto begin = std::chrono::steady_clock::now();
      const std::chrono::microseconds pause(late > 0 ? static_cast<int>(random_() % static_cast<unsigned>(late)) : 0);
      while (std::chrono::steady_clock::now() - begin < pause) continue;
      DecodeLaunch launch = steps_.launch_of(context_, step);
      mailbox_->join(launch.parameters, 1024);
      run_on_->run(launch);
      last = run_on_->number_of(launch.parameters.out).value();
    }
    REQUIRE(run_on_->wait(last) >= 0);
    run_on_->leave();
    check_cuda(cudaStreamSynchronize(context_.stream), "cudaStreamSynchronize", {"test"});
    REQUIRE(context_.fault->code == DeviceFault::none);
    return run_on_->launches() - before;
  }

 private:
  CudaContext context_;
  DecodeSteps steps_;
  std::unique_ptr<CudaBuffer> sampling_;
  cudaStream_t uploads_ = nullptr;
  cudaEvent_t uploaded_ = nullptr;
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<DecodeMailbox> mailbox_;
  std::unique_ptr<RunOn> run_on_;
  std::mt19937 random_{1};
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
  DelayedSteps delayed(model.step.capacity, options.dims), prompt(model.step.capacity, options.dims, decode::compiled_shapes());
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
    if (which.size() == 1) {
      Step alone = step;
      alone.plain_sampling = alone.one_row_each = true;
      for (DelayedSteps* steps : {&delayed, &prompt}) {
        for (const int late : {0, 60, 150, 400}) {
          int64_t launches = 0;
          for (int i = 0; i < 10; ++i) {
            launches += steps->run_on(alone, 60, late);
            const Results results = results_of(model, 1);
            CAPTURE(steps == &prompt, late, i);
            REQUIRE(same_bits(results.logits[0], expected.logits[0]));
            REQUIRE(results.tokens == expected.tokens);
          }
          std::printf("going on: 600 steps%s, up to %d us late, in %lld launches\n", steps == &prompt ? "" : " with delays", late,
                      static_cast<long long>(launches));
          if (late == 0) CHECK(launches < 400);
        }
      }
    }
    CHECK(slow > 1.3 * plain);  // the delays are there
  }
}
