// copy_chunks: the keys and values, in all layers, of the first tokens of chunk `from` become those of chunk `to`.
//
// Layout: kv_cache.h's, so that the rows of a chunk's first tokens are one run of bytes per layer, head and K or V.
// Preconditions: ids and token counts within the cache; no chunk is written by one copy and named by another.
// A block moves one run, 16 bytes at a time where a row's size allows it, otherwise 2. Bytes moved: 4 L KV * size a token. Not captured:
// the list comes by value with each launch, before a step's kernels on the same stream.
#include <algorithm>

#include "cuda/context.h"
#include "cuda/device/kv.cuh"
#include "cuda/device/launch.h"

namespace bolide {
namespace {

constexpr int kThreads = 128;
constexpr int kCopiesOfLaunch = 128;

struct Copies {
  ChunkCopy list[kCopiesOfLaunch];
};

// Elements: of `Piece`, `pieces_of_row` of them a row.
template <class Piece>
__global__ void __launch_bounds__(kThreads) copy_chunks_kernel(KvView kv, Copies copies, int pieces_of_row) {
  const ChunkCopy copy = copies.list[blockIdx.y];
  const int run = blockIdx.x, heads = 2 * kv.kv_heads, layer = run / heads, head = run % heads / 2;
  const bool is_v = run % 2 != 0;
  kv.head_dim = pieces_of_row;
  const Piece* from = kv_row<const Piece>(kv, layer, copy.from, head, is_v, 0);
  Piece* to = kv_row<Piece>(kv, layer, copy.to, head, is_v, 0);
  for (int i = threadIdx.x; i < copy.tokens * pieces_of_row; i += kThreads) to[i] = from[i];
}

template <class Piece>
void launch_copies(CudaContext& context, const KvView& kv, int32_t layers, const Copies& copies, size_t count) {
  const int pieces = static_cast<int>(static_cast<size_t>(kv.head_dim) * dtype_size(kv.dtype) / sizeof(Piece));
  launch(CudaSite{"copy_chunks"}, copy_chunks_kernel<Piece>,
         dim3(static_cast<unsigned>(layers * 2 * kv.kv_heads), static_cast<unsigned>(count)), dim3(kThreads), 0, context.stream, kv, copies,
         pieces);
}

}  // namespace

void cuda_copy_chunks(CudaContext& context, const KvView& kv, int32_t layers, const ChunkCopy* copies, size_t count) {
  const bool wide = static_cast<size_t>(kv.head_dim) * dtype_size(kv.dtype) % sizeof(uint4) == 0;
  for (size_t first = 0; first < count; first += kCopiesOfLaunch) {
    const size_t some = std::min<size_t>(kCopiesOfLaunch, count - first);
    Copies group = {};
    std::copy_n(copies + first, some, group.list);
    if (wide)
      launch_copies<uint4>(context, kv, layers, group, some);
    else
      launch_copies<uint16_t>(context, kv, layers, group, some);
  }
}

}  // namespace bolide
