// A block's computing threads for several rows, each of another sequence: worker.cuh's phases, with a vector for each row and attention by
// a team of warps for each row (rows_attention.cuh); the head is in rows_head.cuh. A row's results do not depend on the rows beside it.
#pragma once

#include "cuda/decode/rows_products.cuh"
#include "cuda/decode/worker_base.cuh"

namespace bolide::decode {

template <class S, Probe kProbe>
struct RowsWorker : WorkerBase<S, kMaxRows, kProbe> {
  using Base = WorkerBase<S, kMaxRows, kProbe>;
  using Base::base_epoch;
  using Base::block;
  using Base::group;
  using Base::inverse_rms;
  using Base::lane;
  using Base::last;
  using Base::mark;
  using Base::meet_workers;
  using Base::own_sums;
  using Base::p;
  using Base::parity;
  using Base::rank;
  using Base::ring;
  using Base::sh;
  using Base::total;
  using Base::warp;
  using Base::where;
  static constexpr int kOwnRows = 8 * S::kHidden;  // of the residual stream, for each row of the step
  static_assert(kOwnRows * kMaxRows <= kThreads);  // a thread owns one element
  static constexpr int kTeam = kWarps / kMaxRows;  // warps that share a row's attention
  const int rows;
  int own_row, part;                                                  // of attention, and which of its team a warp is
  int row = threadIdx.x % kMaxRows, output = threadIdx.x / kMaxRows;  // a thread's product after the warps' shares are summed
  float residual = 0.0f;                                              // of `row`, element kOwnRows * block + output
  float2 turn[2] = {};                                                // of own_row: cosine and sine of the pairs 2 lane and 2 lane + 1

  __device__ RowsWorker(const Parameters& parameters, SharedBase<S, kMaxRows>& shared, const Ring<Base::kStages>& r, int row_count)
      : Base(parameters, shared, r), rows(row_count), own_row(warp / kTeam), part(warp % kTeam) {}

  __device__ void forget_places() {
    Base::forget_places();
    asm volatile("" : "+r"(own_row), "+r"(part), "+r"(row), "+r"(output));
  }
  __device__ void meet_team() { meet(2 + own_row, 32 * kTeam); }
  __device__ uint64_t* words(int of_row) const { return p.words + of_row * S::kWords; }
  __device__ void leave_squares(float squares) {  // of the lane's columns of its row
    squares += __shfl_xor_sync(kAllLanes, squares, 1);
    squares += __shfl_xor_sync(kAllLanes, squares, 2);
    squares += __shfl_xor_sync(kAllLanes, squares, 16);
    if (lane % 4 == 0 && lane / 4 < kMaxRows) sh.squares[parity][lane / 4][warp] = squares;
  }
  // The next output's value of the same row: outputs lie kMaxRows lanes apart.
  __device__ static float of_next_output(float v) { return __shfl_down_sync(kAllLanes, v, kMaxRows); }
  __device__ bool publishes(int at) const { return at % 2 == 0 && row < rows; }

  template <bool kGated, int N>
  __device__ void poll(RowsPart<N>& x, int from, uint32_t epoch, int layer, Phase phase) {
    mark(phase, loading);
    poll_rows<kGated>(x, p.words + from, S::kWords, rows, warp, lane, epoch, ring.patience, where(layer, phase));
    mark(phase, waiting);
  }
  __device__ void publish_residual(int to, float weight, uint32_t epoch) {
    float squares = residual * residual;
    squares += __shfl_xor_sync(kAllLanes, squares, kMaxRows);
    squares += __shfl_xor_sync(kAllLanes, squares, 2 * kMaxRows);
    const float v = residual * weight;
    const uint32_t pair = pack_bf16(v, of_next_output(v)), bits = __float_as_uint(squares);
    if (publishes(output))
      store_word(words(row) + to + word_of(kOwnRows * block + output), pair, output & 2 ? bits >> 16 : bits & 0xffff, epoch);
  }
  __device__ bool owns_residual() const { return output < kOwnRows; }  // the same for a whole warp
  __device__ float own_element(const float* vector) const { return vector && owns_residual() ? vector[kOwnRows * block + output] : 0.0f; }

  __device__ int token(int of_row) const {
    const int32_t given = p.in.token_ids[of_row], id = given < 0 && p.previous ? p.previous[-1 - given].id : given;
    if (id >= 0 && id < p.vocab) return id;
    if (block == 0 && warp == 0) report_fault(p.fault, DeviceFault::bad_token, of_row, id);
    return 0;
  }
  __device__ void embed(RowsPart<S::kHidden>& x) {
    const int n = lane >> 2, of_row = n % kMaxRows < rows ? n % kMaxRows : 0;
    const __nv_bfloat16* from = p.table + static_cast<int64_t>(token(of_row)) * (S::kHidden * kStageColumns);
    const float* norm = sh.layers[0].input_norm;
    x.squares = 0.0f;
#pragma unroll
    for (int i = 0; i < 4 * S::kHidden; ++i) {
      const int column = kStageColumns * (i / 4) + 128 * warp + 32 * (i % 4) + 8 * (lane & 3) + 4 * (n / 4);
      const uint2 v = *reinterpret_cast<const uint2*>(from + column);
      const float4 w = *reinterpret_cast<const float4*>(norm + column);
      const float a = low_bf16(v.x) * p.embed_scale, b = high_bf16(v.x) * p.embed_scale;
      const float c = low_bf16(v.y) * p.embed_scale, d = high_bf16(v.y) * p.embed_scale;
      x.squares += (a * a + b * b) + (c * c + d * d);
      x.v[i / 4][i % 4][0] = pack_bf16(a * w.x, b * w.y);
      x.v[i / 4][i % 4][1] = pack_bf16(c * w.z, d * w.w);
    }
    if (owns_residual() && row < rows)
      residual = __bfloat162float(p.table[static_cast<int64_t>(token(row)) * (S::kHidden * kStageColumns) + kOwnRows * block + output]) *
                 p.embed_scale;
  }

  __device__ void qkv(const Layer& l, int layer, uint32_t epoch) {
    RowsPart<S::kHidden> x;
    rows_product<S::kHidden, S::kHeadOctets>(ring, S::kHeadOctets, x, own_sums(), warp, lane, [&] {
      if (layer > 0)
        poll<false>(x, S::kHiddenIn, epoch - 1, layer, qkv_product);
      else
        embed(x);  // here, so that x need not be kept through a layer
      leave_squares(x.squares);
    });
    meet_workers();
    const float scale = inverse_rms(row);
    for (int at = output; at < 8 * S::kHeadOctets; at += kThreads / kMaxRows) {
      const int local = rank * 8 * S::kHeadOctets + at;
      float v = total(at * kMaxRows + row) * scale;
      if (l.qkv_bias) v += l.qkv_bias[qkv_row<S>(group, local)];
      const float next = of_next_output(v);
      if (publishes(at)) store_floats(words(row) + S::kHeads + (group * S::kHeadRows + local) / 2, v, next, epoch);
    }
    parity ^= 1;
    mark(qkv_product, computing);
  }

  // own_row: norm and rotation of its heads, its blocks of positions, and the combination of its parts from all blocks.
  __device__ void make_heads(const Layer& l, int layer, uint32_t epoch);
  // A round of the rows' blocks: own_row's turn, and bit m for row m whose block is in the stream.
  struct Round {
    Turn own;
    uint32_t cached;
  };
  __device__ Round round_at(int window, int number) const;
  __device__ void attend(Round round, int window, int layer, uint32_t epoch);
  template <class Lanes>
  __device__ void publish_own(Lanes& lanes, bool joined, int layer, uint32_t epoch);
  template <class Lanes>
  __device__ void publish_part(const Lanes& lanes, uint32_t epoch);
  __device__ void append(int layer);
  __device__ void combine(int layer, uint32_t epoch);

  // residual += product(+ bias), then published under the next norm.
  template <int kRowStages, bool kGated>
  __device__ void project(int layer, int from, int to, const float* bias, const float* norm, uint32_t epoch, Phase phase) {
    const float b = own_element(bias), weight = own_element(norm);
    RowsPart<kRowStages> x;
    rows_product<kRowStages, S::kHidden>(ring, S::kHidden, x, own_sums(), warp, lane, [&] { poll<kGated>(x, from, epoch, layer, phase); });
    meet_workers();
    if (owns_residual()) {
      residual += total(threadIdx.x) + b;
      publish_residual(to, weight, epoch);
    }
    parity ^= 1;
    mark(phase, computing);
  }

  __device__ void gate_up(const Layer& l, int layer, uint32_t epoch) {
    constexpr int kOutputs = 8 * S::kMlp;  // of a block
    RowsPart<S::kHidden> x;
    rows_product<S::kHidden, 2 * S::kMlp>(ring, 2 * S::kMlp, x, own_sums(), warp, lane, [&] {
      poll<false>(x, S::kHiddenPost, epoch, layer, gate_up_product);
      leave_squares(x.squares);
    });
    meet_workers();
    const float scale = inverse_rms(row);
    for (int at = output; at < kOutputs; at += kThreads / kMaxRows) {
      float gate = total(at * kMaxRows + row) * scale, up = total((kOutputs + at) * kMaxRows + row) * scale;
      if (l.gate_up_bias) {
        gate += l.gate_up_bias[kOutputs * block + at];
        up += l.gate_up_bias[S::kMlp * kStageColumns + kOutputs * block + at];
      }
      const float v = gated(p.activation, gate) * up;
      const uint32_t pair = pack_bf16(v, of_next_output(v));
      if (publishes(at)) store_word(words(row) + S::kMlpWords + word_of(kOutputs * block + at), pair, 0, epoch);
    }
    parity ^= 1;
    mark(gate_up_product, computing);
  }

  // Logits of the block's octets, and the tokens where nothing but temperature shapes the distribution.
  __device__ void head(uint32_t epoch);
  __device__ void choose(bool plain, uint32_t epoch);

  __device__ void run() {
    long long begin_ns = 0, begin = 0;
    if (kProbe == Probe::clocks) begin_ns = global_nanoseconds(), begin = clock64();
    base_epoch = *static_cast<const volatile uint32_t*>(p.epoch);
    if (own_row < rows) make_turn<S>(p.in.positions[own_row], p.inverse_frequencies, lane, turn);
    last = begin;
    for (int layer = 0; layer < p.layer_count; ++layer) {
      const Layer& l = sh.layers[layer];
      const uint32_t epoch = base_epoch + layer + 1;
      forget_places();
      qkv(l, layer, epoch);
      const Round first = round_at(l.window, 0);
      if (own_row < rows) make_heads(l, layer, epoch);
      attend(first, l.window, layer, epoch);
      if (own_row < rows)
        combine(layer, epoch);
      else
        __nanosleep(600);  // the others still combine: no polls in their way
      project<S::kQueries, true>(layer, S::kAttention, S::kHiddenPost, l.output_bias, l.post_norm, epoch, output_product);
      gate_up(l, layer, epoch);
      project<S::kMlp, true>(layer, S::kMlpWords, S::kHiddenIn, l.down_bias, l.next_norm, epoch, down_product);
    }
    const uint32_t epoch = base_epoch + p.layer_count;
    head(epoch);
    // Every block has read the epoch by now: this one has seen what they all made with it.
    if (block == 0 && threadIdx.x == 0) *p.epoch = epoch;
    ring.patience.report(p.fault);
    if (kProbe == Probe::clocks && threadIdx.x == 0) {
      for (int i = 0; i < kBlockClocks; ++i) p.clocks[block * kBlockClocks + i] += sh.clocks[i];
      if (block == 0) {
        p.clocks[kBlocks * kBlockClocks] += global_nanoseconds() - begin_ns;
        p.clocks[kBlocks * kBlockClocks + 1] += clock64() - begin;
      }
    }
  }
};

}  // namespace bolide::decode
