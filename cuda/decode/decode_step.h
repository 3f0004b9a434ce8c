// Recognises a step that the decode kernel (kernel.cuh) can run as a whole, and runs it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "cuda/decode/run_on.h"
#include "cuda/decode/shapes.h"
#include "cuda/memory.h"

namespace bolide {

class DecodeSteps {
 public:
  // shapes: with the ways to launch them; tests have other kernels of a shape.
  explicit DecodeSteps(int device, const std::vector<decode::CompiledShape>& shapes = decode::compiled_shapes())
      : device_(device), shapes_(shapes) {}

  // Enqueues the step as one kernel, and sample() where that has more to do than the kernel can. False when it does not fit the kernel,
  // which then has not been touched; why_not() says what does not fit. clocks: see decode::Parameters.
  bool enqueue(CudaContext& context, const Step& step, long long* clocks = nullptr);
  // Whether the kernel for this step can take over those behind it: it draws the tokens itself.
  bool goes_on(const CudaContext& context, const Step& step) const;
  // A step that fits as enqueue() launches it.
  DecodeLaunch launch_of(CudaContext& context, const Step& step);
  // Runs a step that fits `repetitions` times and says where the time went.
  std::vector<PhaseTime> phases(CudaContext& context, const Step& step, int32_t repetitions);
  // Empty when the step fits.
  std::string why_not(const CudaContext& context, const Step& step) const;
  // How such a model's decode steps run.
  static DecodeForm form(const CudaContext& context, const DecodeModel& model);
  // Makes the edges' words those of a fresh start, behind all work on the stream so far. To be called when words were lost: what lies in
  // their places must not be taken for what comes there next.
  void forget_edges(CudaContext& context);
  // Forgets the tables of layers: to be called when weights may have moved.
  void clear() { tables_.clear(); }
  // What a backend has to keep free for it.
  static size_t memory_bytes();

 private:
  struct Table {
    std::vector<decode::Layer> layers;
    std::unique_ptr<CudaBuffer> memory;
  };
  const decode::Layer* table(CudaContext& context, const std::vector<decode::Layer>& layers);

  int device_;
  const std::vector<decode::CompiledShape>& shapes_;
  std::vector<Table> tables_;
  // The edges' words, then the epoch and whether the token was drawn: of the kernel for one row, and of that for several.
  std::unique_ptr<CudaBuffer> words_[2];
};

}  // namespace bolide
