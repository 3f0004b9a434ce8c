// Products of 1 to 8 rows with bfloat16 or float32 weights, bound by reading the weights:
// out[m, n] (+)= sum over k of a[m, k] * w[n, k] (+ bias[n]), with a = h, or a = rmsnorm(x) * norm made by each block for itself; or gated:
// out[m, f] = activation(sum f + bias f) * (sum F + f + bias F + f).
//
// Layouts: w [N, K] row-major; h [M, K] of w's type; x [T, K] f32; out [M, >= N] f32, or [M, F] of w's type if gated. Rows at multiples of
// 16 bytes. Preconditions: K a multiple of 8; at most 8 rows.
// A block makes groups of kOctets * 8 outputs. Bulk copies (cp.async.bulk) bring the group's weight rows into shared memory, in slices of k
// where they are long, several slices ahead; the first are under way before the kernels in front have ended (device/dependent.cuh), so that
// weights travel while the row is still being made. The eight warps share out a slice (device/row_fragments.cuh); their sums are added
// through shared memory in the order of the warps.
// Rows in shared memory lie 64 bytes off a multiple of 128, so that the eight lanes of a phase of a 16-byte read meet different banks.
// Few instructions stand between the rows' arrival and the outputs: at one block a multiprocessor each costs its whole latency.
// Bytes moved: N * K * size(w), + for each block M * K * size(w) (norm: * 4, + K * 4) from L2.
#include <algorithm>

#include "cuda/device/activate.cuh"
#include "cuda/device/convert.cuh"
#include "cuda/device/dependent.cuh"
#include "cuda/device/launch.h"
#include "cuda/device/pipeline.cuh"
#include "cuda/device/reduce.cuh"
#include "cuda/device/row_fragments.cuh"
#include "cuda/product.h"

namespace bolide {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * 32;  // that multiply; one more warp brings the weights
constexpr int kMaxRows = 8;                        // of a
constexpr int kMaxStages = 8;
static_assert(kMaxRows == kFewRows);

constexpr int kTurn = kThreads * 4;  // columns of a row whose squares a block sums at a time, four to a thread

// Bytes from row to row in shared memory for rows of `bytes`.
__host__ __device__ constexpr int shared_stride(int bytes) { return (bytes + 127) / 128 * 128 + 64; }

struct Parameters {
  RowProduct a;
  int32_t n, k, groups;   // outputs (gated: F), columns of w, groups of outputs
  int32_t slice, slices;  // columns of a slice, slices of k
  int32_t stages;         // slices in shared memory at a time
  int32_t row_capacity;
  int32_t pace;  // clocks from one KB to the next
  DeviceFault* fault;
};

// Shared memory of a block: weights [stages][kOctets * 8 rows], a [row_capacity], the warps' sums [kWarps][row_capacity][kOctets * 8], sums
// of squares [kWarps], barriers [2][kMaxStages].
struct Shared {
  char *weights, *rows;
  float *partial, *squares;
  uint64_t *full, *empty;
  int weight_stride, row_stride, stage_bytes;
  size_t bytes;
  __host__ __device__ Shared(char* base, const Parameters& p, int octets, int element_bytes) {
    weight_stride = shared_stride(p.slice * element_bytes);
    row_stride = shared_stride(p.k * element_bytes);
    stage_bytes = octets * 8 * weight_stride;
    weights = base;
    rows = weights + p.stages * stage_bytes;
    partial = reinterpret_cast<float*>(rows + p.row_capacity * row_stride);
    squares = partial + 2 * kWarps * p.row_capacity * octets * 8;
    full = reinterpret_cast<uint64_t*>(squares + kWarps);
    empty = full + kMaxStages;
    bytes = static_cast<size_t>(reinterpret_cast<char*>(empty + kMaxStages) - base);
  }
};

// kWide: more than 4 rows.
template <class W, int kOctets, bool kGated, bool kNorm, bool kWide>
struct RowProductBlock {
  using Fragments = RowFragments<W, kOctets, kWide, kWarps>;
  static constexpr int kSize = sizeof(W);
  static constexpr int kOutputs = kOctets * 8;                      // sums of a group; gated: gates, then as many ups
  static constexpr int kStored = kGated ? kOutputs / 2 : kOutputs;  // outputs of a group

  const Parameters& p;
  const Shared s;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  int rows = 0;

  __device__ RowProductBlock(const Parameters& parameters, char* base) : p(parameters), s(base, parameters, kOctets, kSize) {}

  // Brings the weights of all the block's items, each into its stage as soon as that is free. One thread, at a pace that leaves room in the
  // memory system: under a burst of every block's copies at once the few bytes that a kernel waits for take several times as long.
  __device__ void produce() const {
    const uint64_t policy = l2_policy(L2Use::no_more);
    int stage = 0;
    uint32_t parity = 1;
    long long due = clock64();
    for (int group = blockIdx.x; group < p.groups; group += gridDim.x) {
      const int present = min(kStored, p.n - group * kStored);  // of the last group
      for (int first_column = 0; first_column < p.k; first_column += p.slice) {
        wait(s.empty[stage], parity, p.fault);
        const uint32_t bytes = min(p.slice, p.k - first_column) * kSize;
        arrive_expecting(s.full[stage], bytes * present * (kGated ? 2 : 1));
        const W* from = static_cast<const W*>(p.a.weight) + static_cast<int64_t>(group) * kStored * p.a.weight_stride + first_column;
        char* to = s.weights + stage * s.stage_bytes;
        const int gap = static_cast<int>(bytes * p.pace) >> 10;
        for (int i = 0; i < present; ++i) {
#pragma unroll
          for (int half = 0; half < (kGated ? 2 : 1); ++half) {
            while (clock64() < due) {
            }
            due = max(due + gap, clock64());
            copy_bytes(to + (i + half * kStored) * s.weight_stride, from + (i + static_cast<int64_t>(half) * p.n) * p.a.weight_stride,
                       bytes, s.full[stage], policy);
          }
        }
        if (++stage == p.stages) stage = 0, parity ^= 1;
      }
    }
  }

  // Rows of h into shared memory.
  __device__ void stage_rows() const {
    constexpr int kElements = 16 / kSize;
    const int in_row = p.k / kElements;
#pragma unroll 4
    for (int i = threadIdx.x; i < rows * in_row; i += kThreads) {
      const int m = rows == 1 ? 0 : i / in_row, column = (i - m * in_row) * kElements;
      const W* from = static_cast<const W*>(p.a.h) + m * p.a.h_stride + column;
      *reinterpret_cast<uint4*>(s.rows + m * s.row_stride + kSize * column) = Fragments::staged(*reinterpret_cast<const uint4*>(from));
    }
  }

  __device__ const float* residual(int m) const {
    return p.a.norm.x + static_cast<int64_t>(p.a.norm.gather ? p.a.norm.gather[m] : m) * p.k;
  }
  __device__ static float4 load4(const float* from) { return *reinterpret_cast<const float4*>(from); }
  __device__ static float add_squares(float sum, const float4& v) {
    return fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, fmaf(v.x, v.x, sum))));
  }
  __device__ float rstd_of(float squares) const { return rsqrtf(squares / static_cast<float>(p.k) + p.a.norm.eps); }
  // Columns i .. i + 3 of row m.
  __device__ void put_normed(int m, int i, const float4& x, const float4& weight, float rstd) const {
    Fragments::put(s.rows + m * s.row_stride, i,
                   make_float4(x.x * rstd * weight.x, x.y * rstd * weight.y, x.z * rstd * weight.z, x.w * rstd * weight.w));
  }
  // One normed row into shared memory by all threads. A thread keeps its first columns in registers between the sum and the scaling.
  __device__ void stage_normed_row() const {
    const float* x = residual(0);
    const int first = threadIdx.x * 4;
    float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f), w = v;
    if (first < p.k) v = load4(x + first), w = load4(p.a.norm.norm + first);
    float sum = add_squares(0.0f, v);
    for (int i = first + kTurn; i < p.k; i += kTurn) sum = add_squares(sum, load4(x + i));
    sum = warp_sum(sum);
    if (lane == 0) s.squares[warp] = sum;
    meet(1, kThreads);
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) total += s.squares[i];
    const float rstd = rstd_of(total);
    if (first < p.k) put_normed(0, first, v, w, rstd);
    for (int i = first + kTurn; i < p.k; i += kTurn) put_normed(0, i, load4(x + i), load4(p.a.norm.norm + i), rstd);
  }
  // Several: a warp each. Its lanes add what the block's threads would, in their order, so that a row's bits do not depend on the others.
  __device__ void stage_normed_rows() const {
    static_assert(kWarps >= kMaxRows);
    if (warp >= rows) return;
    const float* x = residual(warp);
    float sum[kWarps] = {}, total = 0.0f;
    for (int base = 4 * lane; base < p.k; base += kTurn) {
      float4 v[kWarps];
#pragma unroll
      for (int w = 0; w < kWarps; ++w) v[w] = base + 128 * w < p.k ? load4(x + base + 128 * w) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
      for (int w = 0; w < kWarps; ++w) sum[w] = add_squares(sum[w], v[w]);
    }
#pragma unroll
    for (int w = 0; w < kWarps; ++w) total += warp_sum(sum[w]);
    const float rstd = rstd_of(total);
#pragma unroll 4
    for (int i = lane * 4; i < p.k; i += 128) put_normed(warp, i, load4(x + i), load4(p.a.norm.norm + i), rstd);
  }

  // Weights of the stage's slice times rows of a.
  __device__ void multiply_slice(int stage, int first_column, typename Fragments::Sums& sum) const {
    const RowSlice slice{s.rows + first_column * kSize,     s.row_stride,    rows,
                         s.weights + stage * s.stage_bytes, s.weight_stride, min(p.slice, p.k - first_column)};
    Fragments::add(slice, warp, lane, sum);
  }

  // What an output starts from: bias and, where the product is added, the present value. Asked for before the sums are there.
  __device__ float2 start_of(int m, int n) const {
    float2 start = make_float2(0.0f, 0.0f);
    if (m >= rows || n >= p.n) return start;
    if (p.a.bias) start = make_float2(p.a.bias[n], kGated ? p.a.bias[p.n + n] : 0.0f);
    if (!kGated && p.a.accumulate) start.x += p.a.out[m * p.a.out_stride + n];
    return start;
  }
  __device__ float total(int turn, int m, int output) const {
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += s.partial[((turn * kWarps + w) * p.row_capacity + m) * kOutputs + output];
    return sum;
  }
  __device__ void store(int turn, int m, int n, int c, float2 start) const {
    if (m >= rows || n >= p.n) return;
    const float value = total(turn, m, c) + start.x;
    if constexpr (kGated) {
      const float up = total(turn, m, kStored + c) + start.y;
      static_cast<W*>(p.a.gated)[static_cast<int64_t>(m) * p.n + n] = from_float<W>(activate(p.a.activation, value) * up);
    } else {
      p.a.out[m * p.a.out_stride + n] = value;
    }
  }

  __device__ void run() {
    let_next_start();
    if (warp == kWarps) {
      if (lane < p.stages) {
        init_barrier(s.full[lane], 1);
        init_barrier(s.empty[lane], kWarps);
      }
      publish_barriers();
    }
    __syncthreads();
    if (warp == kWarps) {
      if (lane == 0) produce();
      return;
    }
    rows = min(*p.a.count, kMaxRows);
    if constexpr (kNorm) {
      if (threadIdx.x * 32 < p.k) asm volatile("prefetch.global.L2 [%0];" ::"l"(p.a.norm.norm + threadIdx.x * 32));
    }
    wait_for_previous();
    if constexpr (!kNorm)
      stage_rows();
    else if (rows == 1)
      stage_normed_row();
    else
      stage_normed_rows();

    // This thread's output of a group: a group has at most as many as the block has threads.
    static_assert(kStored * kMaxRows <= kThreads);
    const int m = threadIdx.x / kStored, c = threadIdx.x % kStored;
    int group = blockIdx.x, stage = 0, turn = 0;
    uint32_t parity = 0;
    float2 start = start_of(m, group * kStored + c);
    meet(1, kThreads);
    for (; group < p.groups; turn ^= 1) {
      typename Fragments::Sums sum = {};
      for (int first_column = 0; first_column < p.k; first_column += p.slice) {
        wait(s.full[stage], parity, p.fault);
        multiply_slice(stage, first_column, sum);
        __syncwarp();
        if (lane == 0) arrive(s.empty[stage]);
        if (++stage == p.stages) stage = 0, parity ^= 1;
      }
      Fragments::store(sum, rows, lane, s.partial + (turn * kWarps + warp) * p.row_capacity * kOutputs);
      meet(1, kThreads);
      store(turn, m, group * kStored + c, c, start);
      group += gridDim.x;
      if (group < p.groups) start = start_of(m, group * kStored + c);
    }
  }
};

template <class W, int kOctets, bool kGated, bool kNorm, bool kWide>
__global__ void __launch_bounds__(kThreads + 32, 2) row_product_kernel(Parameters p) {
  extern __shared__ __align__(128) char shared[];
#if __CUDA_ARCH__ >= 900
  RowProductBlock<W, kOctets, kGated, kNorm, kWide>(p, shared).run();
#endif
}

// Every block takes half a multiprocessor's shared memory: two kernels, the one that runs and the next, are under way at a time, and two
// blocks of one kernel on a multiprocessor would leave another without. 1 KB of each is the system's.
constexpr int kBlockBytes = 228 * 1024 / 2 - 1024;
constexpr int kStageBytes = 18 * 1024;  // of a matrix that is read in turns

template <class W, bool kGated, bool kNorm, int... kCandidates>
void launch_octets(CudaContext& context, Parameters p, const CudaSite& site) {
  constexpr int kSize = sizeof(W);
  const int octets = (kGated ? 2 : 1) * ((p.n + 7) / 8), sms = context.multiprocessors;
  const auto rest = [&](int k) {  // bytes besides the weights
    Parameters none = p;
    none.stages = 0;
    return static_cast<int>(Shared(nullptr, none, k, kSize).bytes);
  };
  // kOctets so that one block a multiprocessor holds everything, as evenly as can be; ties go to fewer, larger blocks.
  int chosen = 0, least = INT32_MAX;
  const auto consider = [&](int k) {
    const int blocks = (octets + k - 1) / k;
    if (blocks <= sms && k * 8 * shared_stride(p.k * kSize) + rest(k) <= kBlockBytes && k <= least) least = chosen = k;
  };
  (consider(kCandidates), ...);
  p.slice = p.k;
  const bool at_once = chosen > 0;
  if (!at_once) {
    // In turns: slices small enough for several to be under way.
    chosen = 2;
    const int columns = (kStageBytes / (chosen * 8) - 64) / kSize / 64 * 64;
    p.slice = p.k <= columns ? p.k : columns;
  }
  p.slices = (p.k + p.slice - 1) / p.slice;
  p.groups = (octets + chosen - 1) / chosen;
  // float32: one block a multiprocessor, so that the next kernel's first weights have room.
  const int blocks = std::min(p.groups, at_once || kSize == 4 ? sms : 2 * sms), turns = (p.groups + blocks - 1) / blocks;
  const int in_stage = chosen * 8 * shared_stride(p.slice * kSize);
  p.stages = std::min<int>({at_once ? 1 : turns * p.slices, (kBlockBytes - rest(chosen)) / in_stage, kMaxStages});
  const auto run = [&](auto tag) {
    constexpr int k = decltype(tag)::value;
    if (chosen != k) return;
    const auto kernel = p.row_capacity > 4 ? row_product_kernel<W, k, kGated, kNorm, true> : row_product_kernel<W, k, kGated, kNorm, false>;
    launch_with({context.dependent_launch}, site, kernel, dim3(blocks), dim3(kThreads + 32), kBlockBytes, context.stream, p);
  };
  (run(std::integral_constant<int, kCandidates>{}), ...);
}

template <class W>
void launch_type(CudaContext& context, const Parameters& p, const CudaSite& site) {
  if (p.a.gated) return launch_octets<W, true, true, 2, 4, 6>(context, p, site);
  p.a.norm.x ? launch_octets<W, false, true, 1, 2, 4>(context, p, site) : launch_octets<W, false, false, 1, 2, 4>(context, p, site);
}

}  // namespace

bool row_product_compiled(const CudaSite& site) {
  cudaFuncAttributes attributes{};
  check_cuda(cudaFuncGetAttributes(&attributes, row_product_kernel<__nv_bfloat16, 1, false, false, false>), "kernel attributes", site);
  return attributes.ptxVersion >= 90;
}

bool row_product_fits(const CudaContext& context, const MatrixView& weight, const Rows& rows) {
  constexpr int64_t kMaxRowBytes = 64 * 1024;  // of shared memory
  constexpr int64_t kMaxF32Columns = 1024;     // gemv is faster for longer rows of float32 (docs/performance.md)
  if (weight.dtype == DType::f32 && weight.columns > kMaxF32Columns) return false;
  return context.dependent_launch && rows.capacity <= kMaxRows && (weight.dtype == DType::bf16 || weight.dtype == DType::f32) &&
         context.activations == weight.dtype && weight.columns % 8 == 0 && weight.columns == weight.stride &&
         shared_stride(static_cast<int>(weight.columns * dtype_size(weight.dtype))) * rows.capacity <= kMaxRowBytes &&
         weight.rows < (int64_t{1} << 31) - 64;
}

void row_product(CudaContext& context, const RowProduct& product, const MatrixView& weight, const Rows& rows, const CudaSite& site) {
  require_contract(row_product_fits(context, weight, rows), "row_product_fits() was not asked", site);
  Parameters p{};
  p.a = product;
  p.a.weight = weight.data;
  p.a.weight_stride = weight.stride;
  p.a.count = rows.count;
  p.n = static_cast<int32_t>(product.gated ? weight.rows / 2 : weight.rows);
  p.k = static_cast<int32_t>(weight.columns);
  p.row_capacity = rows.capacity;
  p.fault = context.fault;
  p.pace = context.copy_pace;
  const bool aligned = (product.norm.x ? reinterpret_cast<uintptr_t>(product.norm.x) : reinterpret_cast<uintptr_t>(product.h)) % 16 == 0;
  require_contract(aligned, "rows are not 16-byte aligned", site);
  weight.dtype == DType::f32 ? launch_type<float>(context, p, site) : launch_type<__nv_bfloat16>(context, p, site);
}

}  // namespace bolide
