// e4m3 contexts of the step's sequences with many rows, widened to bfloat16 once a layer, so that attention_wgmma.cu reads them: every
// e4m3 value is a bfloat16 one. What that kernel would otherwise widen once for each tile of rows and head, this one does once.
//
// An item is K and V of one kv head of a chunk, consecutive on both sides; the sequences' chunks (context_of) are numbered in order, and
// blocks take items in turn. A chunk that two sequences name is widened for each. Where all of them do not fit, nothing is done, and
// attention_mma reads e4m3 itself: this kernel and both of those count the chunks for themselves.
//
// Layouts: from, as kv_cache.h says, of one layer; to, the same of wide_chunks chunks: CudaScratch::wide is [chunk_ids of the step's
// capacity] int32, where each chunk of the step's tables lies, padded to kTableAlignment bytes, then [wide_chunks][Hkv][K, V][C][Dh] bf16.
// Positions beyond a sequence's end keep whatever lay there.
// Preconditions: Dh 64 or 128. Bytes moved: 6 * Hkv * Dh a position, of which 4 are written, mostly to L2.
#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <algorithm>
#include <cstddef>

#include "cuda/architectures.h"
#include "cuda/attention.h"
#include "cuda/device/convert.cuh"
#include "cuda/device/dependent.cuh"
#include "cuda/device/kv.cuh"
#include "cuda/device/launch.h"

namespace bolide {
namespace {

constexpr int kThreads = 256;
constexpr int kResident = 6, kBlocks = 8;  // blocks of a multiprocessor at once, and in all
constexpr int kPiece = 8;                  // elements that a thread widens at once: 16 bytes of bfloat16
constexpr int kAtOnce = 4;                 // pieces of a thread that are asked for at once
constexpr size_t kTableAlignment = 1024;
// Contexts of 65,536 positions with 8 kv heads of 128.
constexpr size_t kWideBytes = size_t{256} << 20;

size_t table_bytes(const StepCapacity& capacity) {
  return (static_cast<size_t>(capacity.chunk_ids) * sizeof(int32_t) + kTableAlignment - 1) / kTableAlignment * kTableAlignment;
}

struct WidenParameters {
  AttentionParameters from;
  int32_t* table;  // [chunk_ids of the capacity]
  KvView to;
};

struct Item {
  int kv_head;
  int entry;   // of the step's chunk tables
  int chunk;   // of the cache
  int tokens;  // that the chunk holds
};

__device__ Item find_item(const AttentionParameters& p, int index) {
  Context context{};
  const Dealt place = find_dealt(p.in, index / p.kv_heads, [&](int s) {
    context = context_of(p, s);
    return context.chunks;
  });
  const int source = place.sequence & 31;
  const int chunk = __shfl_sync(0xffffffffu, context.first_chunk, source) + place.index;
  const int tokens = __shfl_sync(0xffffffffu, context.length, source) - chunk * p.kv.chunk_tokens;
  const int entry = p.in.chunk_offsets[place.sequence] + chunk;
  return {index % p.kv_heads, entry, p.in.chunk_ids[entry], min(p.kv.chunk_tokens, tokens)};
}

template <int kDh>
__device__ void widen_item(const WidenParameters& a, const Item& item, int wide_chunk) {
  const int tokens = a.to.chunk_tokens, pieces = 2 * tokens * (kDh / kPiece);
  const auto* from = reinterpret_cast<const uint2*>(kv_row<__nv_fp8_e4m3>(a.from.kv, a.from.layer, item.chunk, item.kv_head, false, 0));
  auto* to = reinterpret_cast<uint4*>(kv_row<__nv_bfloat16>(a.to, 0, wide_chunk, item.kv_head, false, 0));
  const auto holds = [&](int piece) {
    const int row = piece / (kDh / kPiece);
    return piece < pieces && (row < tokens ? row : row - tokens) < item.tokens;
  };
  for (int first = threadIdx.x; first < pieces; first += kAtOnce * kThreads) {
    uint2 narrow[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (holds(first + i * kThreads)) narrow[i] = from[first + i * kThreads];
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (holds(first + i * kThreads)) to[first + i * kThreads] = widen_f8_to_bf16(narrow[i]);
    }
  }
}

template <int kDh>
__global__ void __launch_bounds__(kThreads, kResident) widen_kernel(const __grid_constant__ WidenParameters a) {
  const AttentionParameters& p = a.from;
  let_next_start();
  const int chunks = count_context_chunks(p), items = chunks <= a.to.chunks ? chunks * p.kv_heads : 0;
  int index = blockIdx.x;
  Item item{};
  if (index < items) item = find_item(p, index);
  wait_for_previous();
  while (index < items) {
    if (threadIdx.x == 0 && item.kv_head == 0) a.table[item.entry] = index / p.kv_heads;
    widen_item<kDh>(a, item, index / p.kv_heads);
    index += gridDim.x;
    if (index < items) item = find_item(p, index);
  }
}

}  // namespace

size_t attention_wide_scratch(const CudaContext& context, const StepCapacity& capacity, DType kv, int32_t kv_heads, int32_t head_dim) {
  const bool widens = kv == DType::f8 && context.activations == DType::bf16 && (head_dim == 64 || head_dim == 128) &&
                      context.compute_capability == 90 && compiled_architectures().holds("sm_90a");
  if (!widens) return 0;
  const size_t position = size_t{2} * static_cast<size_t>(kv_heads) * static_cast<size_t>(head_dim) * sizeof(__nv_bfloat16);
  // Also of long steps the rows' own positions, whose last chunks are not full.
  return table_bytes(capacity) + std::max(kWideBytes, 2 * static_cast<size_t>(capacity.tokens) * position);
}

AttentionParameters attention_widened(const CudaContext& context, const AttentionParameters& p) {
  AttentionParameters wide = p;
  const size_t table = table_bytes(context.capacity);
  if (p.kv.dtype != DType::f8 || context.scratch.wide_bytes <= table) return wide;
  const size_t chunk = size_t{2} * static_cast<size_t>(p.kv_heads) * static_cast<size_t>(p.kv.chunk_tokens) *
                       static_cast<size_t>(p.head_dim) * sizeof(__nv_bfloat16);
  auto* base = static_cast<std::byte*>(context.scratch.wide);
  wide.wide_chunks =
      static_cast<int32_t>(std::min((context.scratch.wide_bytes - table) / chunk, static_cast<size_t>(context.capacity.chunk_ids)));
  wide.kv = {base + table, DType::bf16, wide.wide_chunks, p.kv_heads, p.kv.chunk_tokens, p.head_dim};
  wide.in.chunk_ids = reinterpret_cast<int32_t*>(base);
  wide.layer = 0;
  return wide;
}

void attention_widen(CudaContext& context, const AttentionParameters& p, const AttentionParameters& wide, const CudaSite& site) {
  require_contract(p.head_dim == 64 || p.head_dim == 128, "head size", site);
  const int64_t items = int64_t{wide.wide_chunks} * p.kv_heads;
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(items, int64_t{kBlocks} * context.multiprocessors));
  const auto kernel = p.head_dim == 64 ? widen_kernel<64> : widen_kernel<128>;
  launch_with({context.dependent_launch}, site, kernel, dim3(blocks), dim3(kThreads), 0, context.stream,
              WidenParameters{p, wide.in.chunk_ids, wide.kv});
}

}  // namespace bolide
