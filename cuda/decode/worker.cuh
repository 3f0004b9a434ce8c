// A block's computing threads: the phases of a layer as each of the eight warps goes through them. Attention is in worker_attention.cuh,
// the head in worker_head.cuh.
#pragma once

#include "cuda/decode/choice.cuh"
#include "cuda/decode/worker_base.cuh"
#include "cuda/device/reduce.cuh"

namespace bolide::decode {

template <class S, Probe kProbe>
struct Worker : WorkerBase<S, 1, kProbe> {
  using Base = WorkerBase<S, 1, kProbe>;
  using Base::base_epoch;
  using Base::block;
  using Base::forget_places;
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
  using Base::sampling_of;
  using Base::sh;
  using Base::total;
  using Base::warp;
  using Base::where;
  static constexpr int kOwnRows = S::kOwnRows;  // of the residual stream at most: row S::hidden_row(block) + 32 * warp + lane
  float residual = 0.0f;
  float2 turn[S::kTurns] = {};  // cosine and sine of the pairs 2 lane and 2 lane + 1 (wide heads: 4 lane to 4 lane + 3)

  using Base::Base;

  __device__ void leave_squares(float squares) {
    squares = warp_sum(squares);
    if (lane == 0) sh.squares[parity][0][warp] = squares;
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
    if (row < own_rows() && lane % 2 == 0)
      store_word(p.words + words + (S::hidden_row(block) + row) / 2, pair, lane & 2 ? bits >> 16 : bits & 0xffff, epoch);
  }
  __device__ int own_rows() const { return S::hidden_rows(block); }
  __device__ bool owns_residual() const { return 32 * warp < kOwnRows; }
  __device__ float own_element(const float* vector) const {
    const int row = 32 * warp + lane;
    return vector && row < own_rows() ? vector[S::hidden_row(block) + row] : 0.0f;
  }

  __device__ int token() const {
    const int32_t id = sh.now.tokens[0];
    if (id >= 0 && id < p.vocab) return id;
    if (block == 0 && threadIdx.x == 0) report_fault(p.fault, DeviceFault::bad_token, 0, id);
    return 0;
  }
  __device__ void embed(VectorPart<S::kHidden>& x) {
    const __nv_bfloat16* row = p.table + static_cast<int64_t>(token()) * S::kD;
    const float* norm = sh.layers[0].input_norm;
    x.squares = 0.0f;
#pragma unroll
    for (int s = 0; s < S::kHidden; ++s) {
      if (!S::HiddenColumns::holds(s, warp, lane >> 3)) {
        x.v[s][0] = x.v[s][1] = 0;
        continue;
      }
      const int column = S::HiddenColumns::kWidth * s + lane_column(warp, lane);
      const uint2 v = *reinterpret_cast<const uint2*>(row + column);
      const float4 w = *reinterpret_cast<const float4*>(norm + column);
      const float a = low_bf16(v.x) * p.embed_scale, b = high_bf16(v.x) * p.embed_scale;
      const float c = low_bf16(v.y) * p.embed_scale, d = high_bf16(v.y) * p.embed_scale;
      x.squares += (a * a + b * b) + (c * c + d * d);
      x.v[s][0] = pack_bf16(a * w.x, b * w.y);
      x.v[s][1] = pack_bf16(c * w.z, d * w.w);
    }
    if (32 * warp + lane < own_rows()) residual = __bfloat162float(row[S::hidden_row(block) + 32 * warp + lane]) * p.embed_scale;
  }
  __device__ void qkv(const Layer& l, int layer, uint32_t epoch, VectorPart<S::kHidden>& x) {
    const int rows = S::qkv_rows(group, rank);
    if (rows == 0) return;  // not in whole shapes
    Poll<typename S::HiddenColumns, false> poll(p.words + S::kHiddenIn, warp, lane);
    const int row = 32 * warp + lane;
    const bool present = row < rows;
    const int local = S::local_row(rank) + row;
    const float bias = l.qkv_bias && present ? l.qkv_bias[qkv_row<S>(group, local)] : 0.0f;
    product<typename S::HiddenColumns, S::kHeadOctets, S::kInRegisters>(ring, octets_of(rows), x, own_sums(), warp, lane, [&] {
      mark(qkv_product, loading);
      if (layer > 0) poll.finish(x, warp, lane, epoch - 1, ring.patience, where(layer, qkv_product));
      mark(qkv_product, waiting);
      leave_squares(x.squares);
    });
    meet_workers();
    if (32 * warp < S::kOwnQkv) {
      const float v = total(present ? row : 0) * inverse_rms(0) + bias;
      const float next = __shfl_down_sync(kAllLanes, v, 1);
      if (present && lane % 2 == 0) store_floats(p.words + S::kHeadWords + (group * S::kHeadRows + local) / 2, v, next, epoch);
    }
    parity ^= 1;
    mark(qkv_product, computing);
  }

  // N heads of the new token, the warp's and every kWarps th behind it: norm, rotation, and to where attention (or the cache) wants them.
  template <int N>
  __device__ void make_heads(const Layer& l, int layer, uint32_t epoch);
  template <int N>
  __device__ void make_wide_heads(const Layer& l, int layer, uint32_t epoch);
  // The new position's K and V into the cache, where other launches read them.
  __device__ void append(int layer);
  __device__ bool owns_new_position() const { return sh.now.own.context[0] / S::kPositions % S::kHeadBlocks == rank; }

  __device__ void attend(const Layer& l);
  // With the publication of the warp's part where a query head is a warp's, else with its part left in shared memory.
  __device__ void attend_wide(const Layer& l, uint32_t epoch);

  // Each of the group's blocks combines some outputs of all its blocks: laid out by reader, so that a poll is 512 bytes in a row.
  __device__ void publish_partials(uint32_t epoch);
  __device__ void combine(int layer, uint32_t epoch);

  __device__ void attention_phase(const Layer& l, int layer, uint32_t epoch);

  // residual += product(+ bias), then published under the next norm.
  template <class C, bool kGated, bool kNap>
  __device__ void project(int layer, int from, int to, const float* bias, const float* norm, uint32_t epoch, Phase phase) {
    if (kNap && warp >= S::kCombiners) __nanosleep(600);  // the others still combine: no polls in their way
    Poll<C, kGated> poll(p.words + from, warp, lane);
    const float b = own_element(bias), weight = own_element(norm);
    VectorPart<C::kStages> x;
    product<C, octets_of(kOwnRows), S::kInRegisters>(ring, octets_of(own_rows()), x, own_sums(), warp, lane, [&] {
      mark(phase, loading);
      poll.finish(x, warp, lane, epoch, ring.patience, where(layer, phase));
      mark(phase, waiting);
    });
    meet_workers();
    if (owns_residual()) {
      const int row = 32 * warp + lane;
      residual += total(row < own_rows() ? row : 0) + b;
      publish_residual(to, weight, epoch);
    }
    parity ^= 1;
    mark(phase, computing);
  }

  __device__ void gate_up(const Layer& l, int layer, uint32_t epoch) {
    constexpr int kOutputs = S::kOwnMlp;  // of a block
    Poll<typename S::HiddenColumns, false> poll(p.words + S::kHiddenPost, warp, lane);
    const int row = 32 * warp + lane, local = row < kOutputs ? row : 0, output = kOutputs * block + local;
    const float gate_bias = l.gate_up_bias ? l.gate_up_bias[output] : 0.0f;
    const float up_bias = l.gate_up_bias ? l.gate_up_bias[S::kF + output] : 0.0f;
    VectorPart<S::kHidden> x;
    product<typename S::HiddenColumns, 2 * S::kMlpOctets, S::kInRegisters>(ring, 2 * S::kMlpOctets, x, own_sums(), warp, lane, [&] {
      mark(gate_up_product, loading);
      poll.finish(x, warp, lane, epoch, ring.patience, where(layer, gate_up_product));
      mark(gate_up_product, waiting);
      leave_squares(x.squares);
    });
    meet_workers();
    if (32 * warp < kOutputs) {
      const float scale = inverse_rms(0);
      const float gate = total(local) * scale + gate_bias, up = total(8 * S::kMlpOctets + local) * scale + up_bias;
      publish(S::kMlpWords, kOutputs * block + row, row < kOutputs, gated(p.activation, gate) * up, epoch);
    }
    parity ^= 1;
    mark(gate_up_product, computing);
  }

  // Logits of the block's octets, and the token where nothing but temperature shapes the distribution.
  __device__ void head(VectorPart<S::kHidden>& x, uint32_t epoch);
  __device__ void choose(bool plain, uint32_t epoch);
  // Where the kernel goes on by itself: the token, and whether it does. By the first warp of every block.
  __device__ void choose_and_go_on(const BestLogit& best, uint32_t epoch);
  __device__ bool goes_on();

  // All layers and the head.
  __device__ void step(VectorPart<S::kHidden>& x, bool with_head) {
    embed(x);
    make_turn<S>(sh.now.positions[0], p.inverse_frequencies, lane, turn);
    for (int layer = 0; layer < p.layer_count; ++layer) {
      const Layer& l = sh.layers[layer];
      const uint32_t epoch = base_epoch + layer + 1;
      forget_places();
      qkv(l, layer, epoch, x);
      attention_phase(l, layer, epoch);
      project<typename S::QueryColumns, true, true>(layer, S::kAttention, S::kHiddenPost, l.output_bias, l.post_norm, epoch,
                                                    output_product);
      gate_up(l, layer, epoch);
      project<typename S::MlpColumns, true, false>(layer, S::kMlpWords, S::kHiddenIn, l.down_bias, l.next_norm, epoch, down_product);
    }
    base_epoch += p.layer_count;
    if (with_head) head(x, base_epoch);
  }

  __device__ void run(bool with_head) {
    long long begin_ns = 0, begin = 0;
    if (kProbe == Probe::clocks) begin_ns = global_nanoseconds(), begin = clock64();
    base_epoch = *static_cast<const volatile uint32_t*>(p.epoch);
    VectorPart<S::kHidden> x;
    last = begin;
    do step(x, with_head);
    while (S::kGoesOn && p.mailbox && goes_on());
    // Every block has read the epoch by now: this one has seen what they all made with it.
    if (block == 0 && threadIdx.x == 0) *p.epoch = base_epoch;
    ring.patience.report(p.fault);
    if (kProbe == Probe::clocks && threadIdx.x == 0)
      for (int i = 0; i < kBlockClocks; ++i) p.clocks[block * kBlockClocks + i] += sh.clocks[i];
    if (kProbe == Probe::clocks && threadIdx.x == 0 && block == 0) {
      p.clocks[kBlocks * kBlockClocks] += global_nanoseconds() - begin_ns;
      p.clocks[kBlocks * kBlockClocks + 1] += clock64() - begin;
    }
  }
};

}  // namespace bolide::decode
