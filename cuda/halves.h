// A decode step of many sequences as two of half as many, side by side: while one half's attention reads K and V as fast as memory goes,
// the other half's products, which mostly wait for each other, run on the same multiprocessors (Zhu et al., "NanoFlow", arXiv:2408.12757).
#pragma once

#include "cuda/context.h"

namespace bolide {

// Whether the step runs so: if it can, and gains by it or is made to (CudaHalves::wanted).
bool runs_in_halves(const CudaContext& context, const Step& step);

// Enqueues the step's kernels on context.stream and, in between, on context.halves.stream. The second half's rows lie in the activation
// buffers from half of the step's capacity on. Results are those of the whole step but for the order of float32 sums, and a row's do not
// depend on the half it is in.
void enqueue_halves(CudaContext& context, const Step& step);

// Bytes of CudaScratch::halves.
size_t halves_scratch(const StepCapacity& capacity);
// What to reserve of something (bytes, or larger elements) so that either half has `each`: their shares begin at multiples of 256 bytes.
constexpr size_t shared_by_halves(size_t each) { return 2 * (each + 256); }

}  // namespace bolide
