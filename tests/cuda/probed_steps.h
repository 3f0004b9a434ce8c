// Steps through decode kernels of a test's own (Probe), beside the backend that has the weights and the cache.
#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <random>
#include <vector>

#include "catch.h"
#include "cuda/check.h"
#include "cuda/decode/decode_step.h"
#include "cuda/decode/mailbox.h"
#include "cuda/fault.h"
#include "cuda/memory.h"
#include "cuda/scratch.h"
#include "step_model.h"

namespace bolide::cuda_test {

// With a stream, edges, a mailbox and reports of their own. Throws what a kernel reports.
class ProbedSteps {
 public:
  ProbedSteps(const StepCapacity& capacity, const ModelDims& dims, const std::vector<decode::CompiledShape>& shapes) : steps_(0, shapes) {
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
    size_t words = 0;
    for (const decode::CompiledShape& shape : shapes)
      words = std::max({words, static_cast<size_t>(shape.words), static_cast<size_t>(shape.row_words)});
    lost_words_ = std::make_unique<CudaBuffer>(words * sizeof(uint64_t), 0, "test");
    mailbox_ = std::make_unique<DecodeMailbox>(context_, uploads_, *staging_, uploaded_, [this] { throw_fault(context_, steps_); });
    run_on_ = std::make_unique<RunOn>(*mailbox_);
  }
  ~ProbedSteps() {
    cudaStreamSynchronize(context_.stream);
    run_on_.reset();
    mailbox_.reset();
    staging_.reset();
    cudaEventDestroy(uploaded_);
    cudaStreamDestroy(uploads_);
    cudaStreamDestroy(context_.stream);
    cudaFreeHost(context_.fault);
  }
  ProbedSteps(const ProbedSteps&) = delete;
  ProbedSteps& operator=(const ProbedSteps&) = delete;

  // By a launch of its own.
  void run(const Step& step) {
    context_.capacity = step.capacity;
    REQUIRE(steps_.enqueue(context_, step));
    end();
  }
  // Of all steps: what Probe::losses leaves out (decode::loss_of).
  void lose(uint32_t loss) { loss_ = loss; }
  // The step's kernel alone, with that loss.
  void run_losing(const Step& step) {
    context_.capacity = step.capacity;
    const DecodeLaunch launch = launch_of(step);
    launch.launch(launch.parameters, context_.stream);
    end();
  }
  // The same step so many times by as few kernels as will do it; how many those were. Its token ids may be those that it draws itself.
  // late: microseconds from a token to the step after the next, at most.
  int64_t run_on(const Step& step, int times, int late) {
    const int64_t before = run_on_->launches();
    uint32_t last = 0;
    for (int i = 0; i < times; ++i) {
      if (i > 1) wait(last - 1);
      const auto begin = std::chrono::steady_clock::now();
      const std::chrono::microseconds pause(late > 0 ? static_cast<int>(random_() % static_cast<unsigned>(late)) : 0);
      while (std::chrono::steady_clock::now() - begin < pause) continue;
      DecodeLaunch launch = launch_of(step);
      mailbox_->join(launch.parameters, 1024);
      run_on_->run(launch);
      last = run_on_->number_of(launch.parameters.out).value();
    }
    wait(last);
    run_on_->leave();
    end();
    return run_on_->launches() - before;
  }

 private:
  void wait(uint32_t number) {
    const DrawnIds ids = run_on_->wait(number);  // outside of REQUIRE, which would take what it throws for a failure
    REQUIRE(ids[0] >= 0);
  }
  DecodeLaunch launch_of(const Step& step) {
    DecodeLaunch launch = steps_.launch_of(context_, step);
    launch.parameters.previous = launch.parameters.out;
    launch.parameters.loss = loss_;
    launch.parameters.lost_words = static_cast<uint64_t*>(lost_words_->data());
    return launch;
  }
  void end() {
    check_cuda(cudaStreamSynchronize(context_.stream), "cudaStreamSynchronize", {"test"});
    throw_fault(context_, steps_);
  }

  CudaContext context_;
  DecodeSteps steps_;
  std::unique_ptr<CudaBuffer> sampling_, lost_words_;
  cudaStream_t uploads_ = nullptr;
  cudaEvent_t uploaded_ = nullptr;
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<DecodeMailbox> mailbox_;
  std::unique_ptr<RunOn> run_on_;
  std::mt19937 random_{1};
  uint32_t loss_ = 0;
};

template <class Run>
double seconds_of(Run&& run) {
  const auto begin = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// What a step has left of its rows.
struct StepResults {
  std::vector<std::vector<float>> logits;
  std::vector<int32_t> tokens;

  StepResults(StepModel& model, size_t rows) {
    for (size_t i = 0; i < rows; ++i) {
      logits.push_back(model.logits(static_cast<int32_t>(i)));
      tokens.push_back(model.token(static_cast<int32_t>(i)));
    }
  }
  // Of tokens alone: what a step that draws them leaves of its logits is not said.
  static std::vector<int32_t> tokens_of(StepModel& model, size_t rows) {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < rows; ++i) ids.push_back(model.token(static_cast<int32_t>(i)));
    return ids;
  }
  bool same_bits_as(const StepResults& other) const {
    bool same = tokens == other.tokens && logits.size() == other.logits.size();
    for (size_t i = 0; same && i < logits.size(); ++i) same = same_bits(logits[i], other.logits[i]);
    return same;
  }
};

// Several rows that go on: so many times each at its position, every token from the one drawn before, the first from one that is given.
class TokenChain {
 public:
  // step: model's for `rows`, as it is run.
  TokenChain(Backend& backend, StepModel& model, const Step& step, size_t rows)
      : backend_(backend), model_(model), step_(step), rows_(rows) {
    step_.plain_sampling = step_.one_row_each = true;
  }
  // Gives the first tokens, and runs a step of them.
  void begin(ProbedSteps& steps) {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < rows_; ++i) ids.push_back(static_cast<int32_t>(17 + 5 * i));
    put(ids);
    steps.run_on(step_, 1, 0);
    for (size_t i = 0; i < rows_; ++i) ids[i] = -1 - static_cast<int32_t>(i);
    put(ids);
  }
  // See ProbedSteps::run_on.
  int64_t go_on(ProbedSteps& steps, int times, int late) { return steps.run_on(step_, times, late); }
  std::vector<int32_t> tokens() { return StepResults::tokens_of(model_, rows_); }
  // By a launch for every step.
  std::vector<int32_t> expected(ProbedSteps& steps, int times) {
    begin(steps);
    for (int i = 0; i < times; ++i) go_on(steps, 1, 0);
    return tokens();
  }

 private:
  void put(const std::vector<int32_t>& ids) {
    model_.set_tokens(ids);
    backend_.sync();
  }
  Backend& backend_;
  StepModel& model_;
  Step step_;
  size_t rows_;
};
// A temperature and a seed for each row.
inline std::vector<SamplingSpec> warm_rows(size_t rows) {
  std::vector<SamplingSpec> specs(rows);
  for (size_t i = 0; i < rows; ++i) specs[i].temperature = 1.0f, specs[i].seed = 11 + i;
  return specs;
}

}  // namespace bolide::cuda_test
