#include "cuda/fault.h"

#include <algorithm>

#include "core/error.h"
#include "cuda/check.h"
#include "cuda/decode/parameters.h"

namespace bolide {
namespace {

// As decode::Patience::report writes it.
[[noreturn]] void throw_stalled(uint32_t report) {
  const uint32_t key = ~report, block = key & 255, phase = key >> 8 & 255, layer = key >> 16;
  const bool in_layer = phase < decode::head_product;
  throw Error(
      fmt::format("the decode kernel waited in vain in block {}{}, phase '{}': what other blocks make for it did not come, and the step's "
                  "results are lost. Run it again; if it happens again, run with BOLIDE_DECODE_KERNEL=0 in the environment, which takes a "
                  "graph of kernels instead, and report this message",
                  block, in_layer ? fmt::format(", layer {}", layer) : std::string(),
                  decode::kPhaseNames[std::min<uint32_t>(phase, decode::kInputsPhase & 255)]));
}

}  // namespace

void throw_fault(CudaContext& context, DecodeSteps& decode) {
  volatile DeviceFault* shared = context.fault;
  const int32_t code = shared->code, row = shared->row, value = shared->value;
  if (code == DeviceFault::none) return;
  shared->row = 0;
  shared->value = 0;
  shared->code = DeviceFault::none;
  switch (code) {
    case DeviceFault::nan_logits:
    case DeviceFault::infinite_logits:
      throw Error(
          fmt::format("sample: logits row {} holds {}. Check the checkpoint's weights (inspect it, or load another copy); if it was "
                      "saved as float16, its values may overflow: use a bfloat16 or float32 copy",
                      row, code == DeviceFault::nan_logits ? "NaN" : "no finite maximum"));
    case DeviceFault::nothing_to_draw:
      throw Error(
          fmt::format("sample: penalties and biases leave no token to draw in logits row {}. Check --logit-bias and the penalties", row));
    case DeviceFault::bad_token:
      throw_contract(fmt::format("token id {} of row {} is outside the vocabulary", value, row).c_str(), {"embed"});
    case DeviceFault::decode_stalled:
      decode.forget_edges(context);
      throw_stalled(static_cast<uint32_t>(value));
    case DeviceFault::stalled:
      throw_contract(fmt::format("a kernel waited in vain (block {}, thread {})", row, value).c_str(), {"step"});
    default:
      throw_contract(fmt::format("slot {} of row {} is outside the KV cache", value, row).c_str(), {"norm_qkv"});
  }
}

}  // namespace bolide
