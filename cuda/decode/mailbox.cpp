#include "cuda/decode/mailbox.h"

#include <atomic>
#include <cstddef>
#include <cstring>
#include <utility>

#include "cuda/driver.h"

namespace bolide {
namespace {

constexpr CudaSite kSite{"decode"};
constexpr size_t kOutcomeBytes = decode::kOutcomes * decode::kMaxRows * sizeof(uint64_t);

using WriteValue = CUresult (*)(CUstream, CUdeviceptr, cuuint32_t, unsigned);

}  // namespace

DecodeMailbox::DecodeMailbox(CudaContext& context, cudaStream_t uploads, Staging& staging, cudaEvent_t uploaded,
                             std::function<void()> check)
    : context_(context),
      uploads_(uploads),
      staging_(staging),
      uploaded_(uploaded),
      check_(std::move(check)),
      memory_(sizeof(decode::Mailbox), context.device, "the decode kernel") {
  check_cuda(cudaMemset(memory_.data(), 0, sizeof(decode::Mailbox)), "memset", kSite);
  check_cuda(cudaDeviceSynchronize(), "memset", kSite);
  void* outcomes = nullptr;
  check_cuda(cudaHostAlloc(&outcomes, kOutcomeBytes, cudaHostAllocMapped), "pinned host memory", kSite);
  std::memset(outcomes, 0, kOutcomeBytes);
  outcomes_ = static_cast<uint64_t*>(outcomes);
}

DecodeMailbox::~DecodeMailbox() {
  cudaStreamSynchronize(context_.stream);
  cudaFreeHost(outcomes_);
}

void DecodeMailbox::join(decode::Parameters& parameters, int32_t steps) const {
  parameters.mailbox = static_cast<const decode::Mailbox*>(const_cast<CudaBuffer&>(memory_).data());
  parameters.outcomes = outcomes_;
  parameters.most_steps = steps;
}

// In the order of the stream, behind a fence: whoever sees the value sees what was copied before it.
void DecodeMailbox::write(cudaStream_t stream, size_t offset, uint32_t value) {
  static const auto write_value = driver_function<WriteValue>("cuStreamWriteValue32", kSite);
  const auto address = reinterpret_cast<CUdeviceptr>(memory_.data()) + offset;
  if (write_value(stream, address, value, CU_STREAM_WRITE_VALUE_DEFAULT) != CUDA_SUCCESS)
    throw_cuda(cudaErrorUnknown, "cuStreamWriteValue32", kSite);
}

void DecodeMailbox::launch(const DecodeLaunch& step, uint32_t number) {
  rows_[number % decode::kOutcomes] = step.rows;
  check_cuda(cudaStreamWaitEvent(context_.stream, uploaded_), "wait for an upload", kSite);
  write(context_.stream, offsetof(decode::Mailbox, first), number);
  step.launch(step.parameters, context_.stream);
}

void DecodeMailbox::post(const DecodeLaunch& step, uint32_t number) {
  rows_[number % decode::kOutcomes] = step.rows;
  const decode::PostedStep posted{step.parameters.in, step.parameters.out};
  decode::PostedStep& place = places_[number % 2];
  if (std::memcmp(&place, &posted, sizeof posted) != 0) {
    place = posted;
    staging_.copy(static_cast<std::byte*>(memory_.data()) + offsetof(decode::Mailbox, places) + number % 2 * sizeof posted, &posted,
                  sizeof posted);
  }
  write(uploads_, offsetof(decode::Mailbox, posted), number);
}

void DecodeMailbox::leave_out(const DecodeLaunch& step) {
  SampledToken* out = step.parameters.out;
  check_cuda(cudaMemset2DAsync(&out->id, sizeof *out, 0xff, sizeof out->id, static_cast<size_t>(step.rows), context_.stream), "memset",
             kSite);
}

std::optional<StepOutcome> DecodeMailbox::outcome(uint32_t number) {
  StepOutcome outcome{};
  outcome.ids.fill(-1);
  for (int32_t row = 0; row < rows_[number % decode::kOutcomes]; ++row) {
    uint64_t& place = outcomes_[number % decode::kOutcomes * decode::kMaxRows + static_cast<uint32_t>(row)];
    const uint64_t word = std::atomic_ref<uint64_t>(place).load(std::memory_order_acquire);
    if (word >> 32 != number) return std::nullopt;
    outcome.end = static_cast<decode::StepEnd>(word >> 30 & 3);
    outcome.ids[static_cast<size_t>(row)] = static_cast<int32_t>(word & 0x3fffffff);
  }
  if (outcome.end != decode::StepEnd::broken) return outcome;
  // What it found is reported at its end at the latest.
  const cudaError_t status = cudaStreamSynchronize(context_.stream);
  check_();
  check_cuda(status, "cudaStreamSynchronize", kSite);
  outcome.ids.fill(-1);
  return outcome;
}

bool DecodeMailbox::idle() {
  const cudaError_t status = cudaStreamQuery(context_.stream);
  if (status == cudaErrorNotReady) return false;
  check_();  // first: a kernel that reports a fault and ends itself fails the stream too, and the fault says more
  check_cuda(status, "cudaStreamQuery", kSite);
  return true;
}

}  // namespace bolide
