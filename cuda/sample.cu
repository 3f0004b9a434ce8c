// sample: one token (or the target's log-probability) per logits row: penalties and bias, then temperature, top-k, top-p, min-p in
// that order, then the Gumbel-max draw over what is left: argmax of logit / T - log(-log u), u = sampling_uniform(id).
//
// Layouts: logits [R, V] f32, unchanged; scratch [R, V] f32 for the processed logits; out [R] SampledToken.
// Filters as transformers has them: top-k keeps every value tied with the k-th; top-p keeps the most probable ids until their sum
// reaches p, at least one, ties by the lowest id; min-p keeps what is at least min_p times as probable as the best.
// Log-probabilities are those of the unmodified logits, their sum taken in double precision.
// A row with a NaN or without a finite maximum is reported as a fault, its id is -1.
// u has 23 bits, so the Gumbel term lies in [-2.812, 16.636]: what is more than kReach below the best cannot win and draws nothing.
// A cluster of up to 8 blocks of 1,024 threads shares out a row to find its best id, and to draw in the same pass where nothing modifies or
// filters the logits. The rest is the first block's, in passes over the row: one for log-probabilities, two for a draw, four for each of
// top-k, top-p and top-N. Bytes moved: V * 4 a pass, from the L2 cache after the first where they fit.
#include "core/philox.h"
#include "cuda/context.h"
#include "cuda/device/cluster.cuh"
#include "cuda/device/dependent.cuh"
#include "cuda/device/fault.cuh"
#include "cuda/device/launch.h"
#include "cuda/device/reduce.cuh"
#include "cuda/device/select.cuh"

namespace bolide {
namespace {

constexpr int kThreads = kSelectThreads;
constexpr float kReach = 19.5f;
constexpr float kMassOne = 1099511627776.0f;  // 2^40: probabilities as integers, relative to the most probable id

struct Best {
  float value;
  int id;
};
struct BetterOf {
  __device__ Best operator()(const Best& a, const Best& b) const {
    if (a.value > b.value) return a;
    if (b.value > a.value) return b;
    return a.id < b.id ? a : b;
  }
};
// Warp shuffles move words; a Best is two of them.
__device__ inline Best warp_best(Best v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1)
    v = BetterOf()(v, {__shfl_xor_sync(0xffffffffu, v.value, offset), __shfl_xor_sync(0xffffffffu, v.id, offset)});
  return v;
}
__device__ inline Best block_best(Best v) {
  __shared__ Best partial[kThreads / 32];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  v = warp_best(v);
  __syncthreads();
  if (lane == 0) partial[warp] = v;
  __syncthreads();
  return warp_best(partial[lane]);
}

struct Row {
  const float* logits;
  float* scratch;
  int vocab;
  SamplingSpec spec;
};

// Calls f(i, logits[i]) for the thread's share of the row, with several loads under way at once. part of parts: the block's share.
template <class F>
__device__ void for_each_logit(const Row& r, F&& f, int part = 0, int parts = 1) {
  const int first = part * kThreads + threadIdx.x, stride = parts * kThreads;
  if (r.vocab % 4 == 0) {
    const float4* four = reinterpret_cast<const float4*>(r.logits);
#pragma unroll 8
    for (int i = first; i < r.vocab / 4; i += stride) {
      const float4 v = four[i];
      f(4 * i, v.x), f(4 * i + 1, v.y), f(4 * i + 2, v.z), f(4 * i + 3, v.w);
    }
  } else {
#pragma unroll 8
    for (int i = first; i < r.vocab; i += stride) f(i, r.logits[i]);
  }
}

struct RowTop {
  float value;   // of the whole row
  Best allowed;  // of the ids that may be drawn
  int nan_id;    // -1: none
};
__device__ inline RowTop join(const RowTop& a, const RowTop& b) {
  return {fmaxf(a.value, b.value), BetterOf()(a.allowed, b.allowed), max(a.nan_id, b.nan_id)};
}
__device__ inline RowTop warp_top(RowTop v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1)
    v = join(v, {__shfl_xor_sync(0xffffffffu, v.value, offset),
                 {__shfl_xor_sync(0xffffffffu, v.allowed.value, offset), __shfl_xor_sync(0xffffffffu, v.allowed.id, offset)},
                 __shfl_xor_sync(0xffffffffu, v.nan_id, offset)});
  return v;
}
__device__ inline RowTop block_top(RowTop v) {
  __shared__ RowTop partial[kThreads / 32];
  static_assert(kThreads / 32 == 32);
  v = warp_top(v);
  __syncthreads();
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = v;
  __syncthreads();
  return warp_top(partial[threadIdx.x % 32]);
}
// Of the block's share.
__device__ RowTop part_top(const Row& r, int allowed, int part, int parts) {
  float top = -INFINITY;
  Best best{-INFINITY, INT_MAX};
  int nan_id = -1;
  for_each_logit(
      r,
      [&](int i, float v) {
        if (isnan(v)) nan_id = i;
        top = fmaxf(top, v);
        // A thread's ids rise, so the first of equals stays.
        if (i < allowed && (v > best.value || best.id == INT_MAX)) best = {v, i};
      },
      part, parts);
  return block_top({top, best, nan_id});
}

// A word of block `rank`'s record, as it lies there.
__device__ inline int load_word(const int* local, int rank) {
  return __float_as_int(load_from_block(reinterpret_cast<const float*>(local), rank));
}
__device__ inline Best best_of_block(const Best& local, int rank) {
  return {load_from_block(&local.value, rank), load_word(&local.id, rank)};
}
// What one pass over a row gives: its top and, where nothing modifies or filters the logits, the id that is drawn.
struct RowPass {
  RowTop top;
  Best drawn;
};
// Of the whole row, known to every thread of the cluster.
__device__ RowPass joined(const RowPass& own, int parts) {
  __shared__ RowPass shared;
  if (parts == 1) return own;
  if (threadIdx.x == 0) shared = own;
  cluster_barrier();
  const int rank = threadIdx.x % parts;  // a block a lane, so that their latencies overlap
  return {
      warp_top({load_from_block(&shared.top.value, rank), best_of_block(shared.top.allowed, rank), load_word(&shared.top.nan_id, rank)}),
      warp_best(best_of_block(shared.drawn, rank))};
}

// Calls f(i, logits[i .. i + 3]) for the thread's share of the row; ids beyond the row are -inf.
template <class F>
__device__ void for_each_four(const Row& r, F&& f, int part, int parts) {
  constexpr int kAtOnce = 4;  // loads
  const int groups = (r.vocab + 3) / 4, stride = parts * kThreads;
  const auto load = [&](int group) {
    if (r.vocab % 4 == 0) return reinterpret_cast<const float4*>(r.logits)[group];
    const auto at = [&](int i) { return i < r.vocab ? r.logits[i] : -INFINITY; };
    return make_float4(at(4 * group), at(4 * group + 1), at(4 * group + 2), at(4 * group + 3));
  };
  for (int first = part * kThreads + threadIdx.x; first < groups; first += kAtOnce * stride) {
    float4 four[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (first + k * stride < groups) four[k] = load(first + k * stride);
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (first + k * stride >= groups) break;
      const float v[4] = {four[k].x, four[k].y, four[k].z, four[k].w};
      f(4 * (first + k * stride), v);
    }
  }
}

// part_top() and the draw in one pass. A noise that lifts v above what has been drawn, b, needs u > exp(-exp(v - b)), thus 1 - u < exp(v -
// b): only where that holds, with room for rounding, are quotient and logarithms computed, a dozen times a row. inverse: of the
// temperature, finite.
__device__ RowPass part_top_and_draw(const Row& r, int allowed, float inverse, int part, int parts) {
  constexpr float kMostNoise = 16.7f, kLog2e = 1.44269504f;
  __shared__ volatile float drawn_so_far;  // by any thread of the block; a smaller one that overwrites a larger one lets more through
  if (threadIdx.x == 0) drawn_so_far = -INFINITY;
  __syncthreads();
  RowTop top{-INFINITY, {-INFINITY, INT_MAX}, -1};
  Best drawn{-INFINITY, INT_MAX};
  const auto room = [](float v) { return fmaf(fabsf(v), 2e-6f, 0.01f); };
  for_each_four(
      r,
      [&](int i, const float(&v)[4]) {
        const float most = fmaxf(fmaxf(v[0], v[1]), fmaxf(v[2], v[3]));
        if (isnan((v[0] + v[1]) + (v[2] + v[3]))) {  // also of both infinities
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            if (isnan(v[e])) top.nan_id = i + e;
          }
        }
        top.value = fmaxf(top.value, most);
        if (most > top.allowed.value || top.allowed.id == INT_MAX) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            if (i + e < allowed && (v[e] > top.allowed.value || top.allowed.id == INT_MAX)) top.allowed = {v[e], i + e};
          }
        }
        const float so_far = drawn_so_far, hoped = most * inverse;
        if (hoped + kMostNoise + room(hoped) < so_far) return;
        const Philox4 block = philox4x32(r.spec.seed, (static_cast<uint64_t>(r.spec.position) << 32) | (i >> 2), r.spec.sequence);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const float roughly = v[e] * inverse, u = uniform_open(block.v[e]);
          if (!(1.0f - u < exp2f(fmaf(roughly - so_far, kLog2e, 2.0f * room(roughly)))) || i + e >= allowed) continue;
          drawn = BetterOf()(drawn, {v[e] / r.spec.temperature - logf(-logf(u)), i + e});
          if (drawn.value > so_far) drawn_so_far = drawn.value;
        }
      },
      part, parts);
  return {block_top(top), block_best(drawn)};
}

__device__ double log_sum_exp(const Row& r, float top) {
  double sum = 0.0;
  for_each_logit(r, [&](int, float v) { sum += expf(v - top); });
  sum = block_reduce(sum, [](double a, double b) { return a + b; });
  return static_cast<double>(top) + log(sum);
}

// The n most probable ids, most probable first, ties by the lowest id.
__device__ void write_top(const Row& r, double normaliser, SampledToken& out, SelectShared& s) {
  __shared__ Best list[kMaxTopLogprobs];
  __shared__ int filled;
  const int n = max(0, min(min(r.spec.top_logprobs, kMaxTopLogprobs), r.vocab));
  if (threadIdx.x == 0) out.top_count = n, filled = 0;
  if (n <= 0) return;
  const auto bits_of = [&](int i) { return ordered_bits(r.logits[i]); };
  const Selected edge = select_from_top(
      r.vocab, n, [&](int i) { return r.logits[i]; }, [](int) { return 1ull; }, s);
  const int last_tie = lowest_ids_cutoff(
      r.vocab, n - edge.above, [&](int i) { return bits_of(i) == edge.bits; }, s);
  for (int i = threadIdx.x; i < r.vocab; i += kThreads) {
    const uint32_t bits = bits_of(i);
    if (bits > edge.bits || (bits == edge.bits && i <= last_tie)) list[atomicAdd(&filled, 1)] = {r.logits[i], i};
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  const BetterOf better;
  for (int i = 0; i < n; ++i) {
    int best = i;
    for (int j = i + 1; j < n; ++j) {
      if (better(list[j], list[best]).id == list[j].id) best = j;
    }
    const Best chosen = list[best];
    list[best] = list[i];
    out.top_ids[i] = chosen.id;
    out.top_logprobs[i] = static_cast<float>(static_cast<double>(chosen.value) - normaliser);
  }
}

// scratch = logits with penalties and bias, -inf for ids that must not be drawn.
__device__ void write_processed(const Row& r, const StepInputs& in, int row, int allowed) {
  const SamplingSpec& spec = r.spec;
  for_each_logit(r, [&](int i, float v) { r.scratch[i] = i < allowed ? v : -INFINITY; });
  __syncthreads();
  for (int i = in.seen_offsets[row] + threadIdx.x; i < in.seen_offsets[row + 1]; i += kThreads) {
    const SeenToken token = in.seen[i];
    if (token.id < 0 || token.id >= r.vocab) continue;
    float v = r.scratch[token.id];
    v = v > 0.0f ? v / spec.repetition_penalty : v * spec.repetition_penalty;
    if (token.output_count > 0) v -= spec.presence_penalty + spec.frequency_penalty * static_cast<float>(token.output_count);
    r.scratch[token.id] = v;
  }
  __syncthreads();
  for (int i = in.bias_offsets[row] + threadIdx.x; i < in.bias_offsets[row + 1]; i += kThreads) {
    const LogitBias bias = in.biases[i];
    if (bias.id >= 0 && bias.id < r.vocab) atomicAdd(r.scratch + bias.id, bias.bias);
  }
  __syncthreads();
}

// What is left after the filters: values above `bits`, and those equal to it with ids up to `last_tie`.
struct Kept {
  uint32_t bits = 0;
  int last_tie = INT_MAX;
  float minimum_weight = 0.0f;  // of min-p, relative to the best
};

__device__ inline float tempered(const Row& r, int i) { return r.scratch[i] / r.spec.temperature; }
__device__ inline bool holds(const Kept& kept, uint32_t bits, int i) {
  return bits > kept.bits || (bits == kept.bits && i <= kept.last_tie);
}

__device__ Kept filter(const Row& r, float top, SelectShared& s) {
  Kept kept;
  const auto value = [&](int i) { return tempered(r, i); };
  if (r.spec.top_k > 0 && r.spec.top_k < r.vocab)
    kept.bits = select_from_top(
                    r.vocab, r.spec.top_k, value, [](int) { return 1ull; }, s)
                    .bits;
  if (r.spec.top_p < 1.0f) {
    const auto mass = [&](int i) -> unsigned long long {
      const float v = tempered(r, i);
      return holds(kept, ordered_bits(v), i) ? static_cast<unsigned long long>(expf(v - top) * kMassOne) : 0;
    };
    unsigned long long total = 0;
    for (int i = threadIdx.x; i < r.vocab; i += kThreads) total += mass(i);
    total = block_reduce(total, [](unsigned long long a, unsigned long long b) { return a + b; });
    const auto target = max(1ull, static_cast<unsigned long long>(ceil(static_cast<double>(r.spec.top_p) * static_cast<double>(total))));
    const Selected edge = select_from_top(r.vocab, target, value, mass, s);
    const auto at_edge = [&](int i) { return ordered_bits(tempered(r, i)) == edge.bits; };
    int ties = 0, tied_id = INT_MAX;
    for (int i = threadIdx.x; i < r.vocab; i += kThreads) {
      if (at_edge(i)) ++ties, tied_id = i;
    }
    ties = block_reduce(ties, [](int a, int b) { return a + b; });
    tied_id = block_reduce(tied_id, [](int a, int b) { return min(a, b); });
    kept.bits = edge.bits;
    kept.last_tie = INT_MAX;
    if (ties > 1) {
      const unsigned long long each = mass(tied_id), wanted = (target - edge.above + each - 1) / each;
      kept.last_tie = lowest_ids_cutoff(r.vocab, min(wanted, static_cast<unsigned long long>(ties)), at_edge, s);
    }
  }
  kept.minimum_weight = r.spec.min_p;
  return kept;
}

// The best id after Gumbel noise of those that are kept; top: the largest of the scratch values, tempered.
__device__ int draw(const Row& r, const Kept& kept, float top) {
  Best best{-INFINITY, INT_MAX};
  const BetterOf better;
  for (int first = threadIdx.x * 4; first < r.vocab; first += kThreads * 4) {
    Philox4 block{};
    bool drawn = false;  // four neighbouring ids share a block of random numbers
    for (int i = first; i < min(first + 4, r.vocab); ++i) {
      const float v = tempered(r, i);
      if (v < top - kReach || !holds(kept, ordered_bits(v), i) || (v != top && expf(v - top) < kept.minimum_weight)) continue;
      if (!drawn) block = philox4x32(r.spec.seed, (static_cast<uint64_t>(r.spec.position) << 32) | (i >> 2), r.spec.sequence);
      drawn = true;
      best = better(best, {v - logf(-logf(uniform_open(block.v[i & 3]))), i});
    }
  }
  return block_best(best).id;
}

__device__ Best greedy(const float* values, int count) {
  Best best{-INFINITY, INT_MAX};
  const BetterOf better;
  for (int i = threadIdx.x; i < count; i += kThreads) best = better(best, {values[i], i});
  return block_best(best);
}
// NaN compares false with everything and so never becomes the best.
__device__ inline int valid_id(const Best& best) { return best.value > -INFINITY ? best.id : -1; }

__device__ inline bool is_modified(const StepInputs& in, int row) {
  return in.seen_offsets[row + 1] > in.seen_offsets[row] || in.bias_offsets[row + 1] > in.bias_offsets[row];
}
__device__ inline bool is_filtered(const SamplingSpec& spec, int vocab) {
  return (spec.top_k > 0 && spec.top_k < vocab) || spec.top_p < 1.0f || spec.min_p > 0.0f;
}
// The id to draw where the logits are modified or filtered; -1 where penalties and biases leave none. best: of the unmodified logits.
__device__ int choose(const Row& r, const StepInputs& in, int row, int allowed, Best best, SelectShared& s) {
  const bool modified = is_modified(in, row);
  if (!(r.spec.temperature > 0.0f) && !modified) return valid_id(best);
  write_processed(r, in, row, allowed);
  if (modified) best = greedy(r.scratch, allowed);
  const float top = best.value / r.spec.temperature;
  // A quotient that overflows stands for the limit of temperature 0.
  if (!(r.spec.temperature > 0.0f) || !isfinite(top)) return valid_id(best);
  return draw(r, filter(r, top, s), top);
}

__global__ void __launch_bounds__(kThreads)
    sample_kernel(SampleArgs a, StepInputs in, float* scratch, const int32_t* drawn, DeviceFault* fault) {
  extern __shared__ unsigned char shared[];
  SelectShared& s = *reinterpret_cast<SelectShared*>(shared);
  const int row = blockIdx.y, part = blockIdx.x, parts = gridDim.x;
  const bool present = row < in.counts->logit_rows;
  const int64_t base = static_cast<int64_t>(row) * a.vocab;
  const Row r{a.logits + base, scratch + base, a.vocab, in.sampling[row]};
  const SamplingSpec& spec = r.spec;
  const int allowed = spec.allowed_vocab > 0 ? min(spec.allowed_vocab, r.vocab) : r.vocab;
  // Nothing modifies or filters the logits.
  const float inverse = 1.0f / spec.temperature;
  const bool plain =
      spec.target < 0 && spec.temperature > 0.0f && isfinite(inverse) && !is_filtered(spec, r.vocab) && !is_modified(in, row);
  wait_for_previous();
  if (!present || (drawn && *drawn != 0)) return;
  const RowPass own =
      plain ? part_top_and_draw(r, allowed, inverse, part, parts) : RowPass{part_top(r, allowed, part, parts), {-INFINITY, INT_MAX}};
  const RowPass pass = joined(own, parts);
  const RowTop& top = pass.top;
  const bool broken = top.nan_id >= 0 || isinf(top.value);
  int id = broken ? -1 : spec.target;
  if (plain && !broken && isfinite(top.allowed.value / spec.temperature)) id = pass.drawn.id;
  if (parts > 1) cluster_barrier();  // a block's shared memory lasts until it has been read
  if (part > 0) return;

  SampledToken& out = a.out[row];
  for (int i = threadIdx.x; i < static_cast<int>(sizeof(SampledToken) / 4); i += kThreads) reinterpret_cast<int32_t*>(&out)[i] = 0;
  __syncthreads();
  int32_t fault_code = top.nan_id >= 0 ? DeviceFault::nan_logits : DeviceFault::infinite_logits;
  if (!broken && id < 0) {
    id = choose(r, in, row, allowed, top.allowed, s);
    fault_code = DeviceFault::nothing_to_draw;
  }
  if (threadIdx.x == 0) {
    out.id = id;
    if (id < 0) report_fault(fault, fault_code, row, top.nan_id);
  }
  if (id < 0 || (spec.target < 0 && spec.top_logprobs < 0)) return;
  const double normaliser = log_sum_exp(r, top.value);
  if (threadIdx.x == 0) out.logprob = static_cast<float>(static_cast<double>(r.logits[id]) - normaliser);
  write_top(r, normaliser, out, s);
}

}  // namespace

void cuda_sample(CudaContext& context, const SampleArgs& args, const int32_t* drawn) {
  const CudaSite site{"sample"};
  if (context.capacity.logit_rows == 0) return;
  const size_t needed = static_cast<size_t>(context.capacity.logit_rows) * args.vocab * sizeof(float);
  require_contract(needed <= context.scratch.sampling_bytes, "reserve() was not called for this many rows", site);
  // As many blocks a row as keep the device busy: more only wait for each other.
  int cluster = context.dependent_launch ? kMaxCluster : 1;
  while (cluster > 1 && cluster * context.capacity.logit_rows > 2 * context.multiprocessors) cluster /= 2;
  launch_with({context.dependent_launch, cluster}, site, sample_kernel, dim3(cluster, context.capacity.logit_rows), dim3(kThreads),
              sizeof(SelectShared), context.stream, args, *args.in, context.scratch.sampling, drawn, context.fault);
}

}  // namespace bolide
