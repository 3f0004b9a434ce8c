// A whole step on the stream: what is known of neighbouring ops is used here and nowhere else.
#pragma once

#include <vector>

#include "cuda/context.h"

namespace bolide {

// Enqueues the step's kernels. Steps of few rows join norm_qkv and attention of a layer: the attention kernel makes the heads of the
// product. Where a product comes in parts, the norm behind adds them to the residual stream. Results are bit for bit those of the ops one
void enqueue_step(CudaContext& context, const Step& step);
// Ops in their order, of a step that is run neither by the decode kernel nor in halves, or of a half.
void enqueue_ops(CudaContext& context, const std::vector<Op>& ops);

}  // namespace bolide
