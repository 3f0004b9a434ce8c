// Products of 1 to 8 rows with bfloat16 weights on the tensor cores, bound by reading the weights:
// out[m, n] (+)= sum over k of a[m, k] * w[n, k] (+ bias[n]), with a = h, or a = rmsnorm(x) * norm made by each block for itself; or gated:
// out[m, f] = activation(sum f + bias f) * (sum F + f + bias F + f).
//
// Layouts: w [N, K] bf16 row-major; h [M, K] bf16; x [T, K] f32; out [M, >= N] f32, or [M, F] bf16 if gated. Rows at multiples of 16 bytes.
// Preconditions: K a multiple of 8; at most 8 rows.
// A block makes groups of kOctets * 8 outputs. Bulk copies (cp.async.bulk) bring the group's weight rows into shared memory, in slices of k
// where they are long, several slices ahead; the first are under way before the kernels in front have ended (device/dependent.cuh), so that
// weights travel while the row is still being made. The eight warps share out a slice in steps of 32 columns: lane (g, t) reads 8 elements
// of weight row g at once, which are the A fragment of one mma.m16n8k16 as they stand: words 0 and 2 in its upper eight rows, words 1 and 3
// in its lower eight. So the two halves hold different columns k of the same weight rows. Up to 4 rows of a: B's columns 0 to 3 hold what
// belongs to words 0 and 2, columns 4 to 7 the same rows' values for words 1 and 3, and C's upper left and lower right quarters are the
// sums. More rows: one mma for each pair of words. Rows of a lie in shared memory with words 1 and 2 of every 16 bytes exchanged, so that
// B's fragments need no rearrangement either. The warps' sums are added through shared memory in the order of the warps.
// Rows in shared memory lie 64 bytes off a multiple of 128, so that the eight lanes of a phase of a 16-byte read meet different banks.
// Few instructions stand between the rows' arrival and the outputs: at one block a multiprocessor each costs its whole latency.
// Bytes moved: N * K * 2, + for each block M * K * 2 (norm: * 4, + K * 4) from L2.
#include <algorithm>

#include "cuda/device/activate.cuh"
#include "cuda/device/convert.cuh"
#include "cuda/device/dependent.cuh"
#include "cuda/device/launch.h"
#include "cuda/device/pipeline.cuh"
#include "cuda/device/reduce.cuh"
#include "cuda/product.h"

namespace bolide {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * 32;  // that multiply; one more warp brings the weights
constexpr int kStep = 32;                          // columns of k that a warp takes at a time
constexpr int kMaxRows = 8;                        // of a fragment
constexpr int kMaxStages = 8;
static_assert(kMaxRows == kFewRows);

// Bytes from row to row in shared memory for `columns` bf16.
__host__ __device__ constexpr int shared_stride(int columns) { return (columns * 2 + 127) / 128 * 128 + 64; }

struct Parameters {
  RowProduct a;
  int32_t n, k, groups;   // outputs (gated: F), columns of w, groups of outputs
  int32_t slice, slices;  // columns of a slice, slices of k
  int32_t stages;         // slices in shared memory at a time
  int32_t row_capacity;
  int32_t pace;  // clocks from one KB to the next
  DeviceFault* fault;
};

// c[16, 8] += a[16, 16] * b[16, 8]
__device__ inline void multiply(float (&c)[4], const uint4& a, const uint2& b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b.x), "r"(b.y));
}

// Shared memory of a block: weights [stages][kOctets * 8 rows], a [row_capacity], the warps' sums [kWarps][row_capacity][kOctets * 8], sums
// of squares [kMaxRows][kWarps], barriers [2][kMaxStages].
struct Shared {
  char *weights, *rows;
  float *partial, *squares;
  uint64_t *full, *empty;
  int weight_stride, row_stride, stage_bytes;
  size_t bytes;
  __host__ __device__ Shared(char* base, const Parameters& p, int octets) {
    weight_stride = shared_stride(p.slice);
    row_stride = shared_stride(p.k);
    stage_bytes = octets * 8 * weight_stride;
    weights = base;
    rows = weights + p.stages * stage_bytes;
    partial = reinterpret_cast<float*>(rows + p.row_capacity * row_stride);
    squares = partial + 2 * kWarps * p.row_capacity * octets * 8;
    full = reinterpret_cast<uint64_t*>(squares + kWarps * kMaxRows);
    empty = full + kMaxStages;
    bytes = static_cast<size_t>(reinterpret_cast<char*>(empty + kMaxStages) - base);
  }
};

// kWide: more than 4 rows.
template <int kOctets, bool kGated, bool kNorm, bool kWide>
struct RowProductBlock {
  static constexpr int kOutputs = kOctets * 8;                      // sums of a group; gated: gates, then as many ups
  static constexpr int kStored = kGated ? kOutputs / 2 : kOutputs;  // outputs of a group

  const Parameters& p;
  const Shared s;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  int rows = 0;

  __device__ RowProductBlock(const Parameters& parameters, char* base) : p(parameters), s(base, parameters, kOctets) {}

  // Brings the weights of all the block's items, each into its stage as soon as that is free. One thread, at a pace that leaves room in the
  // memory system: under a burst of every block's copies at once the few bytes that a kernel waits for take several times as long.
  __device__ void produce() const {
    int stage = 0;
    uint32_t parity = 1;
    long long due = clock64();
    for (int group = blockIdx.x; group < p.groups; group += gridDim.x) {
      const int present = min(kStored, p.n - group * kStored);  // of the last group
      for (int first_column = 0; first_column < p.k; first_column += p.slice) {
        wait(s.empty[stage], parity, p.fault);
        const uint32_t bytes = min(p.slice, p.k - first_column) * 2;
        arrive_expecting(s.full[stage], bytes * present * (kGated ? 2 : 1));
        const auto* from =
            static_cast<const __nv_bfloat16*>(p.a.weight) + static_cast<int64_t>(group) * kStored * p.a.weight_stride + first_column;
        char* to = s.weights + stage * s.stage_bytes;
        const int gap = static_cast<int>(bytes * p.pace) >> 10;
        for (int i = 0; i < present; ++i) {
#pragma unroll
          for (int half = 0; half < (kGated ? 2 : 1); ++half) {
            while (clock64() < due) {
            }
            due = max(due + gap, clock64());
            copy_bytes(to + (i + half * kStored) * s.weight_stride, from + (i + static_cast<int64_t>(half) * p.n) * p.a.weight_stride,
                       bytes, s.full[stage]);
          }
        }
        if (++stage == p.stages) stage = 0, parity ^= 1;
      }
    }
  }

  static __device__ uint4 exchanged(const uint4& v) { return make_uint4(v.x, v.z, v.y, v.w); }

  // Rows of h into shared memory.
  __device__ void stage_rows() const {
    for (int m = 0; m < rows; ++m) {
      const auto* from = static_cast<const __nv_bfloat16*>(p.a.h) + m * p.a.h_stride;
#pragma unroll 2
      for (int i = threadIdx.x * 8; i < p.k; i += kThreads * 8)
        *reinterpret_cast<uint4*>(s.rows + m * s.row_stride + 2 * i) = exchanged(*reinterpret_cast<const uint4*>(from + i));
    }
  }
  // Normed rows of x into shared memory. A thread keeps its first columns of a row in registers between the sum and the scaling.
  __device__ void stage_normed() const {
    constexpr int kTurn = kThreads * 4;
    for (int m = 0; m < rows; ++m) {
      const float* x = p.a.norm.x + static_cast<int64_t>(p.a.norm.gather ? p.a.norm.gather[m] : m) * p.k;
      const int first = threadIdx.x * 4;
      float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f), w = v;
      if (first < p.k) v = *reinterpret_cast<const float4*>(x + first), w = *reinterpret_cast<const float4*>(p.a.norm.norm + first);
      float sum = v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
      for (int i = first + kTurn; i < p.k; i += kTurn) {
        const float4 u = *reinterpret_cast<const float4*>(x + i);
        sum += u.x * u.x + u.y * u.y + u.z * u.z + u.w * u.w;
      }
      sum = warp_sum(sum);
      if (lane == 0) s.squares[m * kWarps + warp] = sum;
      meet(1, kThreads);
      float total = 0.0f;
#pragma unroll
      for (int i = 0; i < kWarps; ++i) total += s.squares[m * kWarps + i];
      const float rstd = rsqrtf(total / static_cast<float>(p.k) + p.a.norm.eps);
      const auto put = [&](int i, const float4& value, const float4& weight) {
        // Words 0 and 1 of 16 bytes, or 2 and 3: with 1 and 2 exchanged they go to places 0 and 2, or 1 and 3.
        auto* to = reinterpret_cast<uint32_t*>(s.rows + m * s.row_stride) + (i / 8 * 4 + i % 8 / 4);
        to[0] = pack_bf16(value.x * rstd * weight.x, value.y * rstd * weight.y);
        to[2] = pack_bf16(value.z * rstd * weight.z, value.w * rstd * weight.w);
      };
      if (first < p.k) put(first, v, w);
      for (int i = first + kTurn; i < p.k; i += kTurn)
        put(i, *reinterpret_cast<const float4*>(x + i), *reinterpret_cast<const float4*>(p.a.norm.norm + i));
    }
  }

  // Sums of a group: [0] of words 0 and 2, in its upper half; where kWide, [1] of words 1 and 3, in its lower half.
  using Sums = float[kWide ? 2 : 1][kOctets][4];

  // kSteps steps from byte offset `at` of this lane's rows on. inside: false where this lane's columns lie past the end.
  template <int kSteps>
  __device__ void multiply_steps(const char* a, const char* w, int at, bool inside, Sums& sum) const {
    uint2 x[kSteps][kWide ? 2 : 1];
    uint4 weights[kSteps][kOctets];
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int offset = at + i * kWarps * kStep * 2;
#pragma unroll
      for (int half = 0; half < (kWide ? 2 : 1); ++half)
        x[i][half] = inside ? *reinterpret_cast<const uint2*>(a + offset + 8 * half) : make_uint2(0, 0);
#pragma unroll
      for (int o = 0; o < kOctets; ++o)
        weights[i][o] = inside ? *reinterpret_cast<const uint4*>(w + offset + o * 8 * s.weight_stride) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
#pragma unroll
      for (int half = 0; half < (kWide ? 2 : 1); ++half) {
#pragma unroll
        for (int o = 0; o < kOctets; ++o) multiply(sum[half][o], weights[i][o], x[i][half]);
      }
    }
  }
  __device__ void multiply_slice(int stage, int first_column, Sums& sum) const {
    constexpr int kTogether = kOctets >= 4 ? 2 : 4, kTurn = kWarps * kStep;
    const int columns = min(p.slice, p.k - first_column), row = kWide ? g : g % 4;
    // Rows that are not there are read from the first: their columns of C are not stored.
    const char* a = s.rows + (row < rows ? row : 0) * s.row_stride + first_column * 2 + t * 16 + (kWide ? 0 : g / 4 * 8);
    const char* w = s.weights + stage * s.stage_bytes + g * s.weight_stride + t * 16;
    int c = warp * kStep;
    for (; c + (kTogether - 1) * kTurn + kStep <= columns; c += kTogether * kTurn) multiply_steps<kTogether>(a, w, 2 * c, true, sum);
    for (; c < columns; c += kTurn) multiply_steps<1>(a, w, 2 * c, c + t * 8 < columns, sum);
  }
  // The warp's sums to its record.
  __device__ void put_partial(const Sums& sum, int turn) const {
    float* to = s.partial + (turn * kWarps + warp) * p.row_capacity * kOutputs;
#pragma unroll
    for (int o = 0; o < kOctets; ++o) {
      // Weight row g, rows 2 t and 2 t + 1 of a; rows of the lower half's quarter lie two lanes further.
      float low = kWide || t < 2 ? sum[0][o][0] : sum[0][o][2], high = kWide || t < 2 ? sum[0][o][1] : sum[0][o][3];
      if constexpr (kWide) {
        low += sum[1][o][2], high += sum[1][o][3];
      } else {
        low += __shfl_xor_sync(0xffffffffu, low, 2);
        high += __shfl_xor_sync(0xffffffffu, high, 2);
        if (t >= 2) continue;
      }
      if (2 * t < rows) to[2 * t * kOutputs + o * 8 + g] = low;
      if (2 * t + 1 < rows) to[(2 * t + 1) * kOutputs + o * 8 + g] = high;
    }
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
      static_cast<__nv_bfloat16*>(p.a.gated)[static_cast<int64_t>(m) * p.n + n] =
          from_float<__nv_bfloat16>(activate(p.a.activation, value) * up);
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
    if constexpr (kNorm)
      stage_normed();
    else
      stage_rows();

    // This thread's output of a group: a group has at most as many as the block has threads.
    static_assert(kStored * kMaxRows <= kThreads);
    const int m = threadIdx.x / kStored, c = threadIdx.x % kStored;
    int group = blockIdx.x, stage = 0, turn = 0;
    uint32_t parity = 0;
    float2 start = start_of(m, group * kStored + c);
    meet(1, kThreads);
    for (; group < p.groups; turn ^= 1) {
      Sums sum = {};
      for (int first_column = 0; first_column < p.k; first_column += p.slice) {
        wait(s.full[stage], parity, p.fault);
        multiply_slice(stage, first_column, sum);
        __syncwarp();
        if (lane == 0) arrive(s.empty[stage]);
        if (++stage == p.stages) stage = 0, parity ^= 1;
      }
      put_partial(sum, turn);
      meet(1, kThreads);
      store(turn, m, group * kStored + c, c, start);
      group += gridDim.x;
      if (group < p.groups) start = start_of(m, group * kStored + c);
    }
  }
};

template <int kOctets, bool kGated, bool kNorm, bool kWide>
__global__ void __launch_bounds__(kThreads + 32, 2) row_product_kernel(Parameters p) {
  extern __shared__ __align__(128) char shared[];
#if __CUDA_ARCH__ >= 900
  RowProductBlock<kOctets, kGated, kNorm, kWide>(p, shared).run();
#endif
}

// Every block takes half a multiprocessor's shared memory: two kernels, the one that runs and the next, are under way at a time, and two
// blocks of one kernel on a multiprocessor would leave another without. 1 KB of each is the system's.
constexpr int kBlockBytes = 228 * 1024 / 2 - 1024;
constexpr int kStageBytes = 18 * 1024;  // of a matrix that is read in turns

template <bool kGated, bool kNorm, int... kCandidates>
void launch_octets(CudaContext& context, Parameters p, const CudaSite& site) {
  const int octets = (kGated ? 2 : 1) * ((p.n + 7) / 8), sms = context.multiprocessors;
  const auto rest = [&](int k) {  // bytes besides the weights
    Parameters none = p;
    none.stages = 0;
    return static_cast<int>(Shared(nullptr, none, k).bytes);
  };
  // kOctets so that one block a multiprocessor holds everything, as evenly as can be; ties go to fewer, larger blocks.
  int chosen = 0, least = INT32_MAX;
  const auto consider = [&](int k) {
    const int blocks = (octets + k - 1) / k;
    if (blocks <= sms && k * 8 * shared_stride(p.k) + rest(k) <= kBlockBytes && k <= least) least = chosen = k;
  };
  (consider(kCandidates), ...);
  p.slice = p.k;
  const bool at_once = chosen > 0;
  if (!at_once) {
    // In turns: slices small enough for several to be under way.
    chosen = 2;
    const int columns = (kStageBytes / (chosen * 8) - 64) / 2 / 64 * 64;
    p.slice = p.k <= columns ? p.k : columns;
  }
  p.slices = (p.k + p.slice - 1) / p.slice;
  p.groups = (octets + chosen - 1) / chosen;
  const int turns = (p.groups + 2 * sms - 1) / (2 * sms);
  const int in_stage = chosen * 8 * shared_stride(p.slice);
  p.stages = std::min<int>({at_once ? 1 : turns * p.slices, (kBlockBytes - rest(chosen)) / in_stage, kMaxStages});
  const auto run = [&](auto tag) {
    constexpr int k = decltype(tag)::value;
    if (chosen != k) return;
    const auto kernel = p.row_capacity > 4 ? row_product_kernel<k, kGated, kNorm, true> : row_product_kernel<k, kGated, kNorm, false>;
    launch_with({context.dependent_launch}, site, kernel, dim3(std::min(p.groups, at_once ? sms : 2 * sms)), dim3(kThreads + 32),
                kBlockBytes, context.stream, p);
  };
  (run(std::integral_constant<int, kCandidates>{}), ...);
}

}  // namespace

bool row_product_compiled(const CudaSite& site) {
  cudaFuncAttributes attributes{};
  check_cuda(cudaFuncGetAttributes(&attributes, row_product_kernel<1, false, false, false>), "kernel attributes", site);
  return attributes.ptxVersion >= 90;
}

bool row_product_fits(const CudaContext& context, const MatrixView& weight, const Rows& rows) {
  constexpr int64_t kMaxRowBytes = 64 * 1024;  // of shared memory
  return context.dependent_launch && rows.capacity <= kMaxRows && context.activations == DType::bf16 && weight.dtype == DType::bf16 &&
         weight.columns % 8 == 0 && weight.columns == weight.stride &&
         shared_stride(static_cast<int>(weight.columns)) * rows.capacity <= kMaxRowBytes && weight.rows < (int64_t{1} << 31) - 64;
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
  if (product.gated) return launch_octets<true, true, 2, 4, 6>(context, p, site);
  product.norm.x ? launch_octets<false, true, 1, 2, 4>(context, p, site) : launch_octets<false, false, 1, 2, 4>(context, p, site);
}

}  // namespace bolide
