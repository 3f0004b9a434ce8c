// The words through which host and decode kernel agree on steps (decode::Mailbox, outcomes), and the launches of kernels that go on.
#pragma once

#include <functional>

#include "cuda/context.h"
#include "cuda/decode/run_on.h"
#include "cuda/memory.h"

namespace bolide {

class DecodeMailbox final : public RunOnDevice {
 public:
  // uploads: the stream on which inputs go up beside the work, staged by `staging`; uploaded: recorded there behind the last of them.
  // check: throws what the device has reported. All have to live as long.
  DecodeMailbox(CudaContext& context, cudaStream_t uploads, Staging& staging, cudaEvent_t uploaded, std::function<void()> check);
  ~DecodeMailbox() override;
  DecodeMailbox(const DecodeMailbox&) = delete;
  DecodeMailbox& operator=(const DecodeMailbox&) = delete;

  // Makes a step's parameters those of a kernel that goes on, for at most `steps`.
  void join(decode::Parameters& parameters, int32_t steps) const;

  void launch(const DecodeLaunch& step, uint32_t number) override;
  void post(const DecodeLaunch& step, uint32_t number) override;
  void leave_out(const DecodeLaunch& step) override;
  std::optional<StepOutcome> outcome(uint32_t number) override;
  bool idle() override;

 private:
  void write(cudaStream_t stream, size_t offset, uint32_t value);

  CudaContext& context_;
  cudaStream_t uploads_;
  Staging& staging_;
  cudaEvent_t uploaded_;
  std::function<void()> check_;
  CudaBuffer memory_;                     // a decode::Mailbox
  decode::PostedStep places_[2] = {};     // what is known to lie there
  uint64_t* outcomes_ = nullptr;          // [kOutcomes][kMaxRows], host memory that the device sees
  int32_t rows_[decode::kOutcomes] = {};  // of the last steps, likewise
};

}  // namespace bolide
