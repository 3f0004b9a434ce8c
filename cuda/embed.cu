// embed: x[t] = table[token_ids[t]] * scale;  rope[t, i] = (cos, sin)(positions[t] * inverse_frequencies[i]).
//
// Layouts: table [V, D] as stored; x [T, D] f32; rope [T, Dh / 2, 2] f32.
// Preconditions: 0 <= token id < V. An id outside is reported as a fault and its row is NaN.
// One block makes a row of x, another its row of rope. Bytes moved: T * D * (size + 4) + T * Dh * 4.
#include "cuda/context.h"
#include "cuda/device/convert.cuh"
#include "cuda/device/dependent.cuh"
#include "cuda/device/fault.cuh"
#include "cuda/device/launch.h"

namespace bolide {
namespace {

constexpr int kThreads = 256;

__device__ void make_rope(const EmbedArgs& a, int position, int row) {
  float2* rope = reinterpret_cast<float2*>(a.rope) + static_cast<int64_t>(row) * (a.head_dim / 2);
  for (int i = threadIdx.x; i < a.head_dim / 2; i += kThreads) {
    // The product is rounded to float32 before cosine and sine are taken of it, as transformers does.
    float sine, cosine;
    sincosf(__fmul_rn(static_cast<float>(position), a.inverse_frequencies[i]), &sine, &cosine);
    rope[i] = make_float2(cosine, sine);
  }
}

template <class W>
__global__ void __launch_bounds__(kThreads)
    embed_kernel(EmbedArgs a, StepInputs in, const W* table, int64_t stride, int64_t vocab, DeviceFault* fault) {
  let_next_start();
  const int row = blockIdx.x;
  if (row >= in.counts->tokens) return;
  if (blockIdx.y == 1) return make_rope(a, in.positions[row], row);
  const int32_t given = in.token_ids[row], id = given < 0 && a.previous ? a.previous[-1 - given].id : given;
  const bool valid = id >= 0 && id < vocab;
  if (!valid && threadIdx.x == 0) report_fault(fault, DeviceFault::bad_token, row, id);
  float* x = a.x + static_cast<int64_t>(row) * a.hidden;
  for (int i = threadIdx.x; i < a.hidden; i += kThreads) x[i] = valid ? to_float(table[id * stride + i]) * a.scale : nanf("");
}

}  // namespace

void cuda_embed(CudaContext& context, const EmbedArgs& args) {
  const CudaSite site{"embed"};
  const MatrixView table = matrix_view(*args.table);
  require_contract(table.columns == args.hidden, "embedding table's width is not D", site);
  with_type(table.dtype, [&](auto tag) {
    using W = typename decltype(tag)::type;
    launch(site, embed_kernel<W>, dim3(context.capacity.tokens, 2), dim3(kThreads), 0, context.stream, args, *args.in,
           static_cast<const W*>(table.data), table.stride, table.rows, context.fault);
  });
}

}  // namespace bolide
