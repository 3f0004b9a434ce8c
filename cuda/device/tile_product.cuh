// A product of many rows with bfloat16 weights on Hopper's warpgroup tensor cores, x W^T with float32 sums, for kernels that begin before
// the kernels in front have ended and end in an epilogue of their own.
//
// A block makes a tile of kRows token rows by kOutputs products: a warp brings x and W in pieces of kPanels * 64 of K by bulk tensor copies
// into a ring of stages (swizzled panels, device/wgmma.cuh), and kGroups warpgroups multiply 64 rows each. The weights of the first stages
// are asked for before wait_for_previous(), so that memory works while the kernels in front end.
// kMatrices: W may be two matrices of the same width one behind the other, gate and up, of which a tile has kWidth rows each; sums 0 ..
// kWidth - 1 of a row are then the gates, the others their ups.
// K may be cut into parts of whole pieces, one for each blockIdx.z.
//
// Layouts: x [T, K] bf16, W [N, K] bf16. Shared memory: stages of panels of x [kRows][64], then of W [kOutputs][64]. K, rows and outputs
// beyond the arrays arrive as zeros. Tiles that begin at or beyond *count do nothing.
// Preconditions: rows of x and W at multiples of 16 bytes; compute capability 9.0, sm_90a.
// Bytes moved: W once from memory; from L2 x ceil(N / kWidth) times and W ceil(T / kRows) times. Clusters whose blocks bring W for each
// other read less and were slower (docs/performance.md).
#pragma once

#include <type_traits>

#include "cuda/architectures.h"
#include "cuda/device/dependent.cuh"
#include "cuda/device/launch.h"
#include "cuda/device/pipeline.cuh"
#include "cuda/device/wgmma.cuh"
#include "cuda/product.h"
#include "cuda/tensor_map.h"

namespace bolide {

// The largest power of two that is at most `value` and `most`.
constexpr int floor_to_power_of_two(int value, int most) {
  int power = 1;
  while (2 * power <= value && 2 * power <= most) power *= 2;
  return power;
}

struct TileOperands {
  CUtensorMap x, weight;
  int32_t outputs;  // rows of W, or of each of its two matrices
  int32_t pieces;   // of K
  const int32_t* count;
  DeviceFault* fault;
  L2Use weight_use;
};

template <int kWarpgroups, int kMatricesOfW, int kProducts, int kPiecePanels, int kRing>
struct TileShape {
  static constexpr int kGroups = kWarpgroups, kMatrices = kMatricesOfW, kOutputs = kProducts, kPanels = kPiecePanels, kStages = kRing;
  static constexpr int kRows = 64 * kGroups, kConsumerWarps = 4 * kGroups, kThreads = 32 * (kConsumerWarps + 1);
  static constexpr int kWidth = kOutputs / kMatrices;
  static constexpr int kRowPanelBytes = kRows * kPanelRowBytes, kWeightPanelBytes = kOutputs * kPanelRowBytes;
  static constexpr int kPieceBytes = kPanels * (kRowPanelBytes + kWeightPanelBytes);
  static constexpr size_t kSharedBytes = kPanelAlignment + size_t{kStages} * kPieceBytes;
  static_assert(kSharedBytes <= 227 * 1024 && kStages > 1);
  static_assert(kWidth % 8 == 0 && kWidth <= 256, "boxes are whole groups of the swizzle");
};

// Where a thread's sums lie: rows first_row and first_row + 8; sums as device/wgmma.cuh numbers them, column 0 being output first_output.
struct TilePlaceOfSums {
  int first_row, first_output, rows, part;  // rows: of the step; part: of K
};

// What a kernel's ending wants besides the sums. It asks for it while products are under way: each read behind them would hold up the
// kernel for a round trip to L2, and beside an attention those are long. An ending that wants nothing derives from this.
struct SumsAlone {
  // Of each row of the tile, so many bytes from row_bytes(first output) + row * kRowBytes on (null: not for these outputs), which come
  // through the ring behind the last piece, once the kernels in front have ended. At multiples of 16.
  static constexpr int kRowBytes = 0;
  __device__ const void* row_bytes(int) const { return nullptr; }
  // Made by the consumers before the first piece is here, of what no kernel of the step writes.
  struct Shared {};
  struct Early {};
  __device__ Early begin(Shared&, const TilePlaceOfSums&) const { return {}; }
};

// Of four values of each lane of a quad: lane t receives what the lanes 0 .. 3 hold as their value t. Four blocks of 8 columns, of which a
// lane holds 2 columns each, become one block a lane, which it stores at once.
__device__ inline void transpose_quad(uint32_t (&w)[4]) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int step = 1; step <= 2; step *= 2) {
    const bool upper = t & step;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int a = step == 1 ? 2 * i : i, b = a + step;  // lanes whose bit is not set give b and keep a
      const uint32_t other = __shfl_xor_sync(0xffffffffu, upper ? w[a] : w[b], step);
      (upper ? w[a] : w[b]) = other;
    }
  }
}

template <class S, class Ending>
struct TileBlock {
  struct Pipeline {
    uint64_t full[S::kStages], empty[S::kStages];
    typename Ending::Shared of_ending;
  };
  const TileOperands& a;
  const Ending& ending;
  Pipeline& pipe;
  unsigned char* const stages;  // aligned
  const uint32_t base;          // the same as a shared address
  const int rows;               // of the step
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int first_row = blockIdx.x * S::kRows, first_output = blockIdx.y * S::kWidth;
  const int begin = static_cast<int>(blockIdx.z * a.pieces / gridDim.z), end = static_cast<int>((blockIdx.z + 1) * a.pieces / gridDim.z);

  // Of the block's piece i.
  __device__ static int stage_of(int i) { return i % S::kStages; }
  __device__ static uint32_t parity_of(int i) { return i / S::kStages & 1; }
  __device__ uint32_t row_panel(int i, int panel) const { return base + stage_of(i) * S::kPieceBytes + panel * S::kRowPanelBytes; }
  __device__ uint32_t weight_panel(int i, int panel) const {
    return base + stage_of(i) * S::kPieceBytes + S::kPanels * S::kRowPanelBytes + panel * S::kWeightPanelBytes;
  }
  // The rows' bytes that the ending wants follow the last piece in the ring: kRowsAStage of them in each of the next stages. The last
  // piece's own stage is never released and must not be among these.
  static constexpr int kRowsAStage = Ending::kRowBytes ? floor_to_power_of_two(S::kPieceBytes / Ending::kRowBytes, S::kRows) : S::kRows;
  static_assert(Ending::kRowBytes == 0 || (kRowsAStage >= 16 && S::kRows / kRowsAStage < S::kStages), "a warp's rows lie in one stage");

  // ---- The producer: one thread.

  // Where nothing is to be said of L2, nothing is: a hint that says "normal" made many rows' products 9 to 13 % slower.
  __device__ void copy_weight_box(uint32_t to, int x, int y, uint64_t& full, uint64_t policy) const {
    if (a.weight_use == L2Use::normal)
      copy_box(to, &a.weight, x, y, full);
    else
      copy_box(to, &a.weight, x, y, full, policy);
  }
  __device__ void copy_weights(int i, uint64_t policy) const {
    uint64_t& full = pipe.full[stage_of(i)];
    arrive_expecting(full, S::kPieceBytes);
#pragma unroll
    for (int panel = 0; panel < S::kPanels; ++panel) {
#pragma unroll
      for (int m = 0; m < S::kMatrices; ++m)
        copy_weight_box(weight_panel(i, panel) + m * S::kWidth * kPanelRowBytes, ((begin + i) * S::kPanels + panel) * kPanelWidth,
                        m * a.outputs + first_output, full, policy);
    }
  }
  __device__ void copy_rows(int i) const {
#pragma unroll
    for (int panel = 0; panel < S::kPanels; ++panel)
      copy_box(row_panel(i, panel), &a.x, ((begin + i) * S::kPanels + panel) * kPanelWidth, first_row, pipe.full[stage_of(i)]);
  }
  __device__ void copy_bytes_of_rows(int pieces) const {
    const auto* from = static_cast<const unsigned char*>(ending.row_bytes(first_output));
    if (!from) return;
    for (int row = first_row, i = pieces; row < min(rows, first_row + S::kRows); row += kRowsAStage, ++i) {
      wait(pipe.empty[stage_of(i)], parity_of(i) ^ 1, a.fault);
      const int bytes = min(kRowsAStage, rows - row) * Ending::kRowBytes;
      arrive_expecting(pipe.full[stage_of(i)], bytes);
      copy_bytes(stages + stage_of(i) * S::kPieceBytes, from + static_cast<int64_t>(row) * Ending::kRowBytes, bytes,
                 pipe.full[stage_of(i)]);
    }
  }
  __device__ void produce() const {
    const int pieces = end - begin, early = min(S::kStages, pieces);
    const uint64_t policy = l2_policy(a.weight_use);
    for (int i = 0; i < early; ++i) copy_weights(i, policy);
    wait_for_previous();
    for (int i = 0; i < early; ++i) copy_rows(i);
    for (int i = early; i < pieces; ++i) {
      wait(pipe.empty[stage_of(i)], parity_of(i) ^ 1, a.fault);
      copy_weights(i, policy);
      copy_rows(i);
    }
    if constexpr (Ending::kRowBytes > 0) copy_bytes_of_rows(pieces);
  }

  // ---- The consumers.

  __device__ void release(int i) const {
    if (lane == 0) arrive(pipe.empty[stage_of(i)]);
  }
  // What copy_bytes_of_rows() brings of the thread's first row; kRowBytes * 8 behind it lies its second.
  __device__ const unsigned char* bytes_of_first_row(int pieces) const {
    const int row = 16 * warp, i = pieces + row / kRowsAStage;
    if (!ending.row_bytes(first_output) || first_row + row / kRowsAStage * kRowsAStage >= rows)
      return stages;  // nothing comes, nobody reads
    wait(pipe.full[stage_of(i)], parity_of(i), a.fault);
    return stages + stage_of(i) * S::kPieceBytes + (row % kRowsAStage + lane / 4) * Ending::kRowBytes;
  }
  // Calls ending(sums, place, early, shared, bytes of the first row) when all products are added.
  __device__ void consume() const {
    const int group = warp / 4, pieces = end - begin;
    const TilePlaceOfSums place{first_row + 16 * warp + lane / 4, first_output, rows, static_cast<int>(blockIdx.z)};
    const typename Ending::Early early = ending.begin(pipe.of_ending, place);
    float d[S::kOutputs / 2];
#pragma unroll
    for (int i = 0; i < S::kOutputs / 2; ++i) d[i] = 0.0f;
    bool here = false;  // piece i
    for (int i = 0; i < pieces; ++i) {
      if (!here) wait(pipe.full[stage_of(i)], parity_of(i), a.fault);
      begin_products();
#pragma unroll
      for (int panel = 0; panel < S::kPanels; ++panel) {
        const uint64_t x = k_major_descriptor(row_panel(i, panel) + group * 64 * kPanelRowBytes);
        const uint64_t w = k_major_descriptor(weight_panel(i, panel));
#pragma unroll
        for (int k = 0; k < kPanelWidth / 16; ++k) multiply<true>(d, x + descriptor_step(k * 32), w + descriptor_step(k * 32));
      }
      commit_products();
      // Asked while the products are under way: an answer takes a hundred clocks.
      here = i + 1 < pieces && phase_is_over_now(pipe.full[stage_of(i + 1)], parity_of(i + 1));
      wait_products<1>();
      if (i > 0) release(i - 1);
    }
    wait_products<0>();
    hold(d);
    const unsigned char* of_row = nullptr;
    if constexpr (Ending::kRowBytes > 0) of_row = bytes_of_first_row(pieces);
    if constexpr (!std::is_empty_v<typename Ending::Shared>) meet(1, 32 * S::kConsumerWarps);
    ending(d, place, early, pipe.of_ending, of_row);
  }
};

template <class S, class Ending>
__global__ void __launch_bounds__(S::kThreads)
    tile_product_kernel(const __grid_constant__ TileOperands a, const __grid_constant__ Ending ending) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ uint4 shared[];
  __shared__ typename TileBlock<S, Ending>::Pipeline pipe;
  let_next_start();
  const int rows = *a.count;
  if (static_cast<int>(blockIdx.x) * S::kRows >= rows) return wait_for_previous();
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::kStages; ++i) init_barrier(pipe.full[i], 1), init_barrier(pipe.empty[i], S::kConsumerWarps);
    publish_barriers();
    prefetch_map(&a.x);
    prefetch_map(&a.weight);
  }
  __syncthreads();
  const uint32_t base = (shared_address(shared) + kPanelAlignment - 1) / kPanelAlignment * kPanelAlignment;
  const TileBlock<S, Ending> block{a, ending, pipe, reinterpret_cast<unsigned char*>(shared) + (base - shared_address(shared)), base, rows};
  if (block.warp < S::kConsumerWarps)
    block.consume();
  else if (block.lane == 0)
    block.produce();
#endif
}

template <class S, class Ending>
void run_tile_product(CudaContext& context, const Operand& x, const MatrixView& weight, const Rows& rows, int splits, const Ending& ending,
                      const CudaSite& site) {
  constexpr uint64_t kElement = sizeof(__nv_bfloat16);
  constexpr int kPiece = S::kPanels * kPanelWidth;
  const auto k = static_cast<uint64_t>(weight.columns), capacity = static_cast<uint64_t>(rows.capacity);
  TileOperands a{};
  a.x = swizzled_tensor_map(x.data, {{k, kElement, kPanelWidth}, {capacity, static_cast<uint64_t>(x.stride) * kElement, S::kRows}}, site);
  a.weight = swizzled_tensor_map(
      weight.data,
      {{k, kElement, kPanelWidth}, {static_cast<uint64_t>(weight.rows), static_cast<uint64_t>(weight.stride) * kElement, S::kWidth}}, site);
  a.outputs = static_cast<int32_t>(weight.rows / S::kMatrices);
  a.pieces = static_cast<int32_t>((weight.columns + kPiece - 1) / kPiece);
  a.count = rows.count;
  a.fault = context.fault;
  // A step's second half reads the same weights some hundred microseconds behind the first, with all of its K and V in between.
  a.weight_use = context.part == StepPart::first_half    ? L2Use::again
                 : context.part == StepPart::second_half ? L2Use::no_more
                                                         : L2Use::normal;
  const dim3 grid(static_cast<unsigned>((rows.capacity + S::kRows - 1) / S::kRows),
                  static_cast<unsigned>((a.outputs + S::kWidth - 1) / S::kWidth), static_cast<unsigned>(splits));
  launch_with({context.dependent_launch}, site, tile_product_kernel<S, Ending>, grid, dim3(S::kThreads), S::kSharedBytes, context.stream, a,
              ending);
}

}  // namespace bolide
