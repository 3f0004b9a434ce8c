// Decoding one token of one sequence as a single kernel: every block walks through all layers, its weights arriving as one stream
// (stream.cuh), and exchanges vectors with the other blocks (edges.cuh). In a layer:
//
//   hidden -> QKV -> heads (within a key/value head's blocks) -> attention over the block's own positions -> partials (within the same blocks) -> combined
//   -> output product -> hidden -> gate_up -> mlp -> down -> hidden
//
// The residual stream's rows stay in float32 with the threads that own them. What is published is bf16(x * norm weight), rounded once, and the sum of
// squares of x along with it; 1 / rms scales the finished sums. So numerics are those of the ops one by one.
#pragma once

#include "core/philox.h"
#include "cuda/decode/attention.cuh"
#include "cuda/device/activate.cuh"
#include "cuda/device/reduce.cuh"

namespace bolide::decode {

template <class S>
struct SharedBase {
  Layer layers[kMaxLayers];
  AttentionShared<S> attention;
  float sums[2][kWarps][S::kMaxSums];  // the warps' shares of a product's rows: of this product and the one before
  alignas(16) float squares[2][kWarps];
  long long clocks[kBlockClocks];
  OwnBlocks own;
  uint64_t own_ready;
};
constexpr size_t kSharedLimit = 227 * 1024;
template <class S>
constexpr int stages_that_fit() {
  const int n = static_cast<int>((kSharedLimit - sizeof(SharedBase<S>) - 512) / (kStageBytes + 2 * sizeof(uint64_t)));
  return n < 13 ? n : 13;
}
template <class S>
struct Shared {
  static constexpr int kStages = stages_that_fit<S>();
  alignas(128) char ring[kStages * kStageBytes];
  uint64_t full[kStages], empty[kStages];
  SharedBase<S> base;
};

// No division below takes the compiler's, which is a call: behind one, registers are no longer allotted by warpgroup.
//
// Rounded to nearest for operands far from overflow and underflow: a quotient is exact to the last bit when its remainder is added.
__device__ inline float divide(float a, float b) {
  const float guess = __fdividef(1.0f, b), inverse = fmaf(guess, fmaf(-b, guess, 1.0f), guess), q = a * inverse;
  return fmaf(fmaf(-b, q, a), inverse, q);
}
__device__ inline float gated(GatedActivation activation, float v) {
  return activation == GatedActivation::silu ? __fdividef(v, 1.0f + __expf(-v)) : activate_gelu(activation, v);
}

__device__ inline long long global_nanoseconds() {
  long long t;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
  return t;
}

struct Candidate {
  float value = -INFINITY;
  int32_t id = INT_MAX;
  __device__ void keep(float v, int32_t i) {
    if (v > value || (v == value && i < id)) value = v, id = i;
  }
  __device__ void join_warp() {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) keep(__shfl_xor_sync(kAllLanes, value, offset), __shfl_xor_sync(kAllLanes, id, offset));
  }
};

// kTimed: adds the first warp's clocks by phase to p.clocks.
template <class S, bool kTimed>
struct Worker {
  static constexpr int kStages = Shared<S>::kStages;
  static constexpr int kOwnRows = 8 * S::kHidden;  // of the residual stream: row kOwnRows * block + 32 * warp + lane
  const Parameters& p;
  SharedBase<S>& sh;
  Ring<kStages> ring;
  const int warp, lane, block, group, rank;
  uint32_t base_epoch = 0;
  int parity = 0;  // of sh.sums
  long long last = 0;
  float residual = 0.0f;
  float2 turn[2] = {};  // cosine and sine of the pairs 2 lane and 2 lane + 1

  __device__ Worker(const Parameters& parameters, SharedBase<S>& shared, const Ring<kStages>& r)
      : p(parameters), sh(shared), ring(r), warp(threadIdx.x / 32), lane(threadIdx.x % 32), block(blockIdx.x), group(block / kGroupBlocks),
        rank(block % kGroupBlocks) {}

  __device__ void mark(Phase phase, Part part) {
    if (!kTimed || threadIdx.x != 0) return;
    const long long now = clock64();
    sh.clocks[phase * kParts + part] += now - last;
    last = now;
  }
  __device__ static uint32_t where(int layer, Phase phase) { return static_cast<uint32_t>(layer) << 8 | phase; }

  __device__ float* own_sums() { return sh.sums[parity][warp]; }
  __device__ void meet_workers() { meet(1, kThreads); }
  // After the barrier: a row's sum over the warps, and 1 / rms of the vector.
  __device__ float total(int row) const {
    float v[kWarps];
#pragma unroll
    for (int w = 0; w < kWarps; ++w) v[w] = sh.sums[parity][w][row];
    return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
  }
  __device__ float inverse_rms() const {
    const float4 a = *reinterpret_cast<const float4*>(&sh.squares[parity][0]), b = *reinterpret_cast<const float4*>(&sh.squares[parity][4]);
    const float v = ((a.x + a.y) + (a.z + a.w)) + ((b.x + b.y) + (b.z + b.w));
    return rsqrtf(v / (S::kHidden * kStageColumns) + p.norm_eps);
  }
  __device__ void leave_squares(float squares) {
    squares = warp_sum(squares);
    if (lane == 0) sh.squares[parity][warp] = squares;
  }
  // Rows first .. of a vector that all blocks read, two a word.
  __device__ void publish(int words, int row, bool present, float v, uint32_t epoch) {
    const uint32_t pair = pack_bf16(v, __shfl_down_sync(kAllLanes, v, 1));
    if (present && lane % 2 == 0) store_word(p.words + words + row / 2, pair, 0, epoch);
  }
  // The residual stream's rows with the next norm's weight, and the sum of squares of four rows in the spare halves of their two words.
  __device__ void publish_residual(int words, float weight, uint32_t epoch) {
    float squares = residual * residual;
    squares += __shfl_xor_sync(kAllLanes, squares, 1);
    squares += __shfl_xor_sync(kAllLanes, squares, 2);
    const float v = residual * weight;
    const uint32_t pair = pack_bf16(v, __shfl_down_sync(kAllLanes, v, 1)), bits = __float_as_uint(squares);
    const int row = 32 * warp + lane;
    if (row < kOwnRows && lane % 2 == 0)
      store_word(p.words + words + (kOwnRows * block + row) / 2, pair, lane & 2 ? bits >> 16 : bits & 0xffff, epoch);
  }
  __device__ bool owns_residual() const { return 32 * warp < kOwnRows; }
  __device__ float own_element(const float* vector) const {
    const int row = 32 * warp + lane;
    return vector && row < kOwnRows ? vector[kOwnRows * block + row] : 0.0f;
  }

  __device__ int token() const {
    const int32_t given = p.in.token_ids[0], id = given < 0 && p.previous ? p.previous[-1 - given].id : given;
    if (id >= 0 && id < p.vocab) return id;
    if (block == 0 && threadIdx.x == 0) report_fault(p.fault, DeviceFault::bad_token, 0, id);
    return 0;
  }
  __device__ void embed(VectorPart<S::kHidden>& x) {
    const __nv_bfloat16* row = p.table + static_cast<int64_t>(token()) * (S::kHidden * kStageColumns);
    const float* norm = sh.layers[0].input_norm;
    x.squares = 0.0f;
#pragma unroll
    for (int s = 0; s < S::kHidden; ++s) {
      const int column = kStageColumns * s + lane_column(warp, lane);
      const uint2 v = *reinterpret_cast<const uint2*>(row + column);
      const float4 w = *reinterpret_cast<const float4*>(norm + column);
      const float a = low_bf16(v.x) * p.embed_scale, b = high_bf16(v.x) * p.embed_scale;
      const float c = low_bf16(v.y) * p.embed_scale, d = high_bf16(v.y) * p.embed_scale;
      x.squares += (a * a + b * b) + (c * c + d * d);
      x.v[s][0] = pack_bf16(a * w.x, b * w.y);
      x.v[s][1] = pack_bf16(c * w.z, d * w.w);
    }
    if (32 * warp + lane < kOwnRows) residual = __bfloat162float(row[kOwnRows * block + 32 * warp + lane]) * p.embed_scale;
  }
  __device__ void make_turn() {
    const int position = p.in.positions[0];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      // The product is rounded to float32 before cosine and sine are taken of it, as transformers does.
      if (lane < S::kHeadDim / 4) sincosf(__fmul_rn(static_cast<float>(position), p.inverse_frequencies[2 * lane + i]), &turn[i].y, &turn[i].x);
    }
  }

  __device__ void qkv(const Layer& l, int layer, uint32_t epoch, VectorPart<S::kHidden>& x) {
    Poll<S::kHidden, false> poll(p.words + S::kHiddenIn, warp, lane);
    const int row = 32 * warp + lane;
    const bool present = row < 8 * S::kHeadOctets;
    const int local = rank * 8 * S::kHeadOctets + row;
    const float bias = l.qkv_bias && present ? l.qkv_bias[Producer<S, kStages>::qkv_row(group, local)] : 0.0f;
    product<S::kHidden, S::kHeadOctets>(ring, S::kHeadOctets, x, own_sums(), warp, lane, [&] {
      mark(qkv_product, loading);
      if (layer > 0) poll.finish(x, epoch - 1, ring.patience, where(layer, qkv_product));
      mark(qkv_product, waiting);
      leave_squares(x.squares);
    });
    meet_workers();
    if (32 * warp < 8 * S::kHeadOctets) {
      const float v = total(present ? row : 0) * inverse_rms() + bias;
      const float next = __shfl_down_sync(kAllLanes, v, 1);
      if (present && lane % 2 == 0) store_floats(p.words + S::kHeads + (group * S::kHeadRows + local) / 2, v, next, epoch);
    }
    parity ^= 1;
    mark(qkv_product, computing);
  }

  // One head of the new token by one warp: norm, rotation, and to where attention (or the cache) wants it.
  __device__ void make_head(const Layer& l, int layer, uint32_t epoch) {
    constexpr int kHalf = S::kHeadDim / 2;
    if (warp >= S::kQueryHeads + 2) return;
    const bool is_q = warp < S::kQueryHeads, is_v = warp == S::kQueryHeads + 1, active = lane < S::kHeadDim / 4;
    const float* norm = is_q ? l.q_norm : is_v ? nullptr : l.k_norm;
    const int at = 2 * (active ? lane : 0);
    float2 low_weight{1.0f, 1.0f}, high_weight{1.0f, 1.0f};
    if (norm) low_weight = *reinterpret_cast<const float2*>(norm + at), high_weight = *reinterpret_cast<const float2*>(norm + kHalf + at);
    const uint64_t* words = p.words + S::kHeads + (group * S::kHeadRows + warp * S::kHeadDim + at) / 2;
    Word a, b;
    int n = 0;
    do a = load_word(words), b = load_word(words + kHalf / 2), ++n;
    while (__any_sync(kAllLanes, (!a.is_of(epoch) || !b.is_of(epoch)) && ring.patience.holds(n, where(layer, attention))));
    mark(attention, waiting);
    float2 low = floats_of(a), high = floats_of(b);
    if (norm) {
      const float squares = active ? (low.x * low.x + low.y * low.y) + (high.x * high.x + high.y * high.y) : 0.0f;
      const float scale = rsqrtf(warp_sum(squares) / S::kHeadDim + p.norm_eps);
      low.x *= scale * low_weight.x, low.y *= scale * low_weight.y;
      high.x *= scale * high_weight.x, high.y *= scale * high_weight.y;
    }
    if (!is_v) {
      const float2 l0 = low, h0 = high;
      low = make_float2(l0.x * turn[0].x - h0.x * turn[0].y, l0.y * turn[1].x - h0.y * turn[1].y);
      high = make_float2(h0.x * turn[0].x + l0.x * turn[0].y, h0.y * turn[1].x + l0.y * turn[1].y);
    }
    if (!active) return;
    if (is_q) {
      const float scale = p.softmax_scale * 1.4426950408889634f;
      *reinterpret_cast<float2*>(&sh.attention.q[warp][at]) = make_float2(low.x * scale, low.y * scale);
      *reinterpret_cast<float2*>(&sh.attention.q[warp][kHalf + at]) = make_float2(high.x * scale, high.y * scale);
      return;
    }
    const uint32_t low_pair = pack_bf16(low.x, low.y), high_pair = pack_bf16(high.x, high.y);
    *reinterpret_cast<uint32_t*>(&sh.attention.fresh[is_v][at]) = low_pair;
    *reinterpret_cast<uint32_t*>(&sh.attention.fresh[is_v][kHalf + at]) = high_pair;
  }
  // The new position's K and V into the cache, where other launches read them.
  __device__ void append(int layer) {
    constexpr int kPairs = S::kHeadDim / 2;
    const int i = threadIdx.x - (kThreads - 2 * kPairs);  // K's pairs, then V's
    if (i < 0 || !owns_new_position()) return;
    const bool is_v = i >= kPairs;
    __nv_bfloat16* to = kv_row<__nv_bfloat16>(p.kv, layer, sh.own.slot_chunk, group, is_v, sh.own.slot_offset);
    reinterpret_cast<uint32_t*>(to)[i % kPairs] = reinterpret_cast<const uint32_t*>(sh.attention.fresh[is_v])[i % kPairs];
  }
  __device__ bool owns_new_position() const { return sh.own.context / S::kPositions % kGroupBlocks == rank; }

  __device__ void attend(const Layer& l) {
    using Lanes = Softmax<S>;
    Lanes lanes;
    lanes.start(sh.attention, lane);
    const int context = sh.own.context, from = l.window > 0 ? max(0, context + 1 - l.window) : 0;
    const int within = Lanes::kTogether * (warp * Lanes::kGroups + lane / Lanes::kLanes), column = 4 * (lane % Lanes::kLanes);
    for (int j = 0; j < sh.own.count; ++j) {
      const int first = (rank + j * kGroupBlocks) * S::kPositions;
      if (first / S::kPositions < from / S::kPositions) continue;
      const bool cached = first < context;  // else the new position is the block's only one
      if (cached) wait(ring.full[ring.place.stage], ring.place.parity, ring.patience, kStreamPhase);
      const char* stage = ring.data + ring.place.stage * kStageBytes + within * S::kHeadDim * 2;
      uint2 k[Lanes::kTogether], v[Lanes::kTogether];
      int valid = 0;
#pragma unroll
      for (int i = 0; i < Lanes::kTogether; ++i) {
        const int position = first + within + i;
        const bool fresh = position == context;
        const char* keys = fresh ? reinterpret_cast<const char*>(sh.attention.fresh[0]) : stage + i * S::kHeadDim * 2;
        const char* values = fresh ? reinterpret_cast<const char*>(sh.attention.fresh[1]) : stage + i * S::kHeadDim * 2 + kStageBytes / 2;
        k[i] = *reinterpret_cast<const uint2*>(keys + 2 * column);
        v[i] = *reinterpret_cast<const uint2*>(values + 2 * column);
        if (position <= context && position >= from) {
          valid |= 1 << i;
        } else {
          v[i] = make_uint2(0, 0);  // what lies there may be no number
        }
      }
      lanes.add(k, v, valid, lane);
      if (!cached) continue;
      __syncwarp();
      if (lane == 0) arrive(ring.empty[ring.place.stage]);
      ring.place.next();
    }
    lanes.finish(sh.attention, warp, lane);
  }

  // Each of the group's blocks combines kCombined outputs of all its blocks: laid out by reader, so that a poll is 512 bytes in a row.
  __device__ void publish_partials(uint32_t epoch) {
    uint64_t* words = p.words + S::kPartials + group * S::kGroupWords;
    const int d = 2 * threadIdx.x;
    if (d >= S::kGroupWidth) return;
    float scale[kWarps], a = 0.0f, b = 0.0f;
    const float2 joined = join_warps(sh.attention, d / S::kHeadDim, scale);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float2 v = *reinterpret_cast<const float2*>(&sh.attention.values[w][d]);
      a += v.x * scale[w], b += v.y * scale[w];
    }
    store_floats(words + (d / 8 * kGroupBlocks + rank) * 4 + d % 8 / 2, a, b, epoch);
    if (d % S::kCombined == 0) {
      uint64_t* to = words + S::kPartialWords + (d / S::kCombined * kGroupBlocks + rank) * 4;
      store_word(to, __float_as_uint(joined.x), 0, epoch);
      store_word(to + 1, __float_as_uint(joined.y), 0, epoch);
    }
  }
  __device__ void combine(int layer, uint32_t epoch) {
    static_assert(kGroupBlocks == 16 && S::kCombined % 8 == 0 && S::kCombined / 8 <= kWarps);
    if (warp >= S::kCombined / 8) return;
    const uint64_t* words = p.words + S::kPartials + group * S::kGroupWords;
    const int source = lane % kGroupBlocks, half = lane / kGroupBlocks;
    const uint64_t* at = words + ((rank * (S::kCombined / 8) + warp) * kGroupBlocks + source) * 4 + 2 * half;
    const uint64_t* sum_at = words + S::kPartialWords + (rank * kGroupBlocks + source) * 4;
    WordPair values, sums;
    int n = 0;
    do values = load_words(at), sums = load_words(sum_at), ++n;
    while (__any_sync(kAllLanes, (!values.are_of(epoch) || !sums.are_of(epoch)) && ring.patience.holds(n, where(layer, combination))));
    mark(combination, waiting);
    const float maximum = __uint_as_float(sums.a.low);
    // Both halves of the warp hold the same 16 maxima; as integers they are in the same order.
    const int bits = __float_as_int(maximum), ordered = bits ^ (bits >> 31 & 0x7fffffff);
    const int highest = __reduce_max_sync(kAllLanes, ordered);
    const float top = __int_as_float(highest ^ (highest >> 31 & 0x7fffffff));
    const float scale = maximum > -INFINITY ? power_of_2(maximum - top) : 0.0f;
    float sum = __uint_as_float(sums.b.low) * scale;
#pragma unroll
    for (int offset = 1; offset < kGroupBlocks; offset *= 2) sum += __shfl_xor_sync(kAllLanes, sum, offset);
    const float2 low = floats_of(values.a), high = floats_of(values.b);
    const float o[4] = {low.x * scale, low.y * scale, high.x * scale, high.y * scale};
    // Sums over 16 lanes while the four values spread over them: value i ends on lanes with bits 3 and 2 equal to i.
    const bool b3 = lane & 8, b2 = lane & 4;
    const float first = (b3 ? o[2] : o[0]) + __shfl_xor_sync(kAllLanes, b3 ? o[0] : o[2], 8);
    const float second = (b3 ? o[3] : o[1]) + __shfl_xor_sync(kAllLanes, b3 ? o[1] : o[3], 8);
    float v = (b2 ? second : first) + __shfl_xor_sync(kAllLanes, b2 ? first : second, 4);
    v += __shfl_xor_sync(kAllLanes, v, 1);
    v += __shfl_xor_sync(kAllLanes, v, 2);
    v = __shfl_sync(kAllLanes, __fdividef(v, sum), lane % 8 * 4);
    publish(S::kAttention, group * S::kGroupWidth + rank * S::kCombined + 8 * warp + lane, lane < 8, v, epoch);
    mark(combination, computing);
  }

  __device__ void attention_phase(const Layer& l, int layer, uint32_t epoch) {
    make_head(l, layer, epoch);
    meet_workers();
    attend(l);
    meet_workers();
    publish_partials(epoch);
    append(layer);
    mark(attention, computing);
    combine(layer, epoch);
  }

  // residual += product(+ bias), then published under the next norm.
  template <int kRowStages, bool kGated, bool kNap>
  __device__ void project(int layer, int from, int to, const float* bias, const float* norm, uint32_t epoch, Phase phase) {
    if (kNap && warp >= S::kCombined / 8) __nanosleep(600);  // the others still combine: no polls in their way
    Poll<kRowStages, kGated> poll(p.words + from, warp, lane);
    const float b = own_element(bias), weight = own_element(norm);
    VectorPart<kRowStages> x;
    product<kRowStages, S::kHidden>(ring, S::kHidden, x, own_sums(), warp, lane, [&] {
      mark(phase, loading);
      poll.finish(x, epoch, ring.patience, where(layer, phase));
      mark(phase, waiting);
    });
    meet_workers();
    if (owns_residual()) {
      const int row = 32 * warp + lane;
      residual += total(row < kOwnRows ? row : 0) + b;
      publish_residual(to, weight, epoch);
    }
    parity ^= 1;
    mark(phase, computing);
  }

  __device__ void gate_up(const Layer& l, int layer, uint32_t epoch) {
    constexpr int kOutputs = 8 * S::kMlp;  // of a block
    Poll<S::kHidden, false> poll(p.words + S::kHiddenPost, warp, lane);
    const int row = 32 * warp + lane, local = row < kOutputs ? row : 0, output = kOutputs * block + local;
    const float gate_bias = l.gate_up_bias ? l.gate_up_bias[output] : 0.0f;
    const float up_bias = l.gate_up_bias ? l.gate_up_bias[S::kMlp * kStageColumns + output] : 0.0f;
    VectorPart<S::kHidden> x;
    product<S::kHidden, 2 * S::kMlp>(ring, 2 * S::kMlp, x, own_sums(), warp, lane, [&] {
      mark(gate_up_product, loading);
      poll.finish(x, epoch, ring.patience, where(layer, gate_up_product));
      mark(gate_up_product, waiting);
      leave_squares(x.squares);
    });
    meet_workers();
    if (32 * warp < kOutputs) {
      const float scale = inverse_rms();
      const float gate = total(local) * scale + gate_bias, up = total(kOutputs + local) * scale + up_bias;
      publish(S::kMlpWords, kOutputs * block + row, row < kOutputs, gated(p.activation, gate) * up, epoch);
    }
    parity ^= 1;
    mark(gate_up_product, computing);
  }

  // Logits of the block's octets, and the token where nothing but temperature shapes the distribution.
  __device__ void head(VectorPart<S::kHidden>& x, uint32_t epoch) {
    constexpr int kTogether = 4;
    const SamplingSpec spec = p.in.sampling[0];
    const int allowed = spec.allowed_vocab > 0 ? min(spec.allowed_vocab, p.vocab) : p.vocab;
    const bool plain = spec.target < 0 && spec.top_logprobs < 0 && p.in.seen_offsets[1] == p.in.seen_offsets[0] &&
                       p.in.bias_offsets[1] == p.in.bias_offsets[0] &&
                       (!(spec.temperature > 0.0f) || !((spec.top_k > 0 && spec.top_k < p.vocab) || spec.top_p < 1.0f || spec.min_p > 0.0f));
    const int octets = p.vocab / 8 / kBlocks + (block < p.vocab / 8 % kBlocks ? 1 : 0);
    Poll<S::kHidden, true> poll(p.words + S::kHiddenIn, warp, lane);
    Candidate best;
    uint32_t broken = 0;  // 1: an infinity, 2: NaN
    float scale = 0.0f;
    for (int o = 0; o < octets; o += kTogether) {
      product<S::kHidden, kTogether>(ring, min(octets - o, kTogether), x, own_sums(), warp, lane, [&] {
        if (o > 0) return;
        poll.finish(x, epoch, ring.patience, where(p.layer_count, head_product));
        leave_squares(x.squares);
      });
      meet_workers();
      if (warp == 0) {
        if (o == 0) scale = inverse_rms();
        const int octet = o + lane / 8, id = (octet * kBlocks + block) * 8 + lane % 8;
        if (octet < octets) {
          float v = total(lane) * scale;
          p.logits[id] = v;
          broken |= v != v ? 2 : v > 3.4e38f ? 1 : 0;
          if (plain && id < allowed) {
            if (spec.temperature > 0.0f) {
              const Philox4 random = sampling_block(spec.seed, spec.sequence, spec.position, static_cast<uint32_t>(id));
              const uint32_t bits = id & 2 ? (id & 1 ? random.v[3] : random.v[2]) : (id & 1 ? random.v[1] : random.v[0]);
              v = divide(v, spec.temperature) - logf(-logf(uniform_open(bits)));
            }
            best.keep(v, id);
          }
        }
      }
      parity ^= 1;
      mark(head_product, computing);
    }
    if (warp != 0) return;
    best.join_warp();
    broken = __reduce_or_sync(kAllLanes, broken);
    if (lane == 0) {
      store_word(p.words + S::kBest + 2 * block, __float_as_uint(best.value), broken, epoch);
      store_word(p.words + S::kBest + 2 * block + 1, static_cast<uint32_t>(best.id), 0, epoch);
    }
    if (block == 0) choose(plain, epoch);
  }
  __device__ void choose(bool plain, uint32_t epoch) {
    Candidate best;
    uint32_t broken = 0;
#pragma unroll
    for (int i = 0; i < kBlocks / 32; ++i) {
      WordPair w;
      int n = 0;
      do w = load_words(p.words + S::kBest + 2 * (lane + 32 * i)), ++n;
      while (__any_sync(kAllLanes, !w.are_of(epoch) && ring.patience.holds(n, where(p.layer_count, head_product))));
      best.keep(__uint_as_float(w.a.low), static_cast<int32_t>(w.b.low));
      broken |= w.a.high & 0xffff;
    }
    best.join_warp();
    broken = __reduce_or_sync(kAllLanes, broken);
    const bool drawn = plain && broken == 0 && best.value > -INFINITY && best.value < INFINITY;
    if (drawn)
      for (int i = lane; i < static_cast<int>(sizeof(SampledToken) / 4); i += 32) reinterpret_cast<int32_t*>(p.out)[i] = i == 0 ? best.id : 0;
    if (lane == 0) {
      *p.drawn = drawn;
      if (!drawn && p.alone) {
        p.out->id = -1;
        report_fault(p.fault, broken & 2 ? DeviceFault::nan_logits : DeviceFault::infinite_logits, 0, 0);
      }
    }
    mark(head_product, waiting);
  }

  __device__ void run(bool with_head) {
    long long begin_ns = 0, begin = 0;
    if (kTimed) begin_ns = global_nanoseconds(), begin = clock64();
    base_epoch = *static_cast<const volatile uint32_t*>(p.epoch);
    VectorPart<S::kHidden> x;
    embed(x);
    make_turn();
    last = begin;
    for (int layer = 0; layer < p.layer_count; ++layer) {
      const Layer& l = sh.layers[layer];
      const uint32_t epoch = base_epoch + layer + 1;
      qkv(l, layer, epoch, x);
      attention_phase(l, layer, epoch);
      project<S::kQueries, true, true>(layer, S::kAttention, S::kHiddenPost, l.output_bias, l.post_norm, epoch, output_product);
      gate_up(l, layer, epoch);
      project<S::kMlp, true, false>(layer, S::kMlpWords, S::kHiddenIn, l.down_bias, l.next_norm, epoch, down_product);
    }
    const uint32_t epoch = base_epoch + p.layer_count;
    if (with_head) head(x, epoch);
    // Every block has read the epoch by now: this one has seen what they all made with it.
    if (block == 0 && threadIdx.x == 0) *p.epoch = epoch;
    if (ring.patience.where) report_fault(p.fault, DeviceFault::decode_stalled, block, ring.patience.where);
    if (kTimed && threadIdx.x == 0)
      for (int i = 0; i < kBlockClocks; ++i) p.clocks[block * kBlockClocks + i] += sh.clocks[i];
    if (kTimed && threadIdx.x == 0 && block == 0) {
      p.clocks[kBlocks * kBlockClocks] += global_nanoseconds() - begin_ns;
      p.clocks[kBlocks * kBlockClocks + 1] += clock64() - begin;
    }
  }
};

template <class S, bool kTimed>
__global__ void __launch_bounds__(kThreads + 128, 1) decode_kernel(const __grid_constant__ Parameters p) {
  extern __shared__ __align__(128) char shared_bytes[];
  Shared<S>& sh = *reinterpret_cast<Shared<S>*>(shared_bytes);
  constexpr int kStages = Shared<S>::kStages;
  for (int i = threadIdx.x; i < p.layer_count * static_cast<int>(sizeof(Layer) / 8); i += blockDim.x)
    reinterpret_cast<uint64_t*>(sh.base.layers)[i] = reinterpret_cast<const uint64_t*>(p.layers)[i];
  if (threadIdx.x < kBlockClocks) sh.base.clocks[threadIdx.x] = 0;
  const int rank = blockIdx.x % kGroupBlocks, context = p.in.kv_lengths[0] - 1;
  const int blocks = context / S::kPositions + 1, own = (blocks - rank + kGroupBlocks - 1) / kGroupBlocks;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      init_barrier(sh.full[i], 1);
      init_barrier(sh.empty[i], kWarps);
    }
    init_barrier(sh.base.own_ready, 3);
    sh.base.own.count = own;
    sh.base.own.context = context;
    sh.base.own.slot_chunk = p.in.slots[0] / p.kv.chunk_tokens;
    sh.base.own.slot_offset = p.in.slots[0] % p.kv.chunk_tokens;
    publish_barriers();
  }
  __syncthreads();
  const bool with_head = p.in.counts->logit_rows > 0;
  if (threadIdx.x >= kThreads) {
    shrink_registers<40>();
    if (threadIdx.x == kThreads) {
      Producer<S, kStages>(p, sh.base.layers, sh.base.own, sh.ring, sh.full, sh.empty).run(with_head, &sh.base.own_ready);
    } else if (threadIdx.x >= kThreads + 32) {
      const int* chunk_ids = p.in.chunk_ids + p.in.chunk_offsets[0];
      for (int j = threadIdx.x - kThreads - 32; j < own; j += 96) {
        const int position = (rank + j * kGroupBlocks) * S::kPositions, chunk = chunk_ids[position / p.kv.chunk_tokens];
        const int64_t row = static_cast<int64_t>(chunk) * p.kv.kv_heads * 2 * p.kv.chunk_tokens + position % p.kv.chunk_tokens;
        sh.base.own.offset[j] = static_cast<int>(row / S::kPositions);
      }
      __syncwarp();
      if (threadIdx.x % 32 == 0) arrive(sh.base.own_ready);
    }
  } else {
    grow_registers<232>();
    Worker<S, kTimed>(p, sh.base, Ring<kStages>{sh.ring, sh.full, sh.empty, {}, {}}).run(with_head);
  }
}

}  // namespace bolide::decode
