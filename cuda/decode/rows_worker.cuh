// A block's computing threads for several rows, each of another sequence: worker.cuh's phases, with a vector for each row and attention by
// a team of warps for each row (rows_attention.cuh); the head is in rows_head.cuh. A row's bits do not depend on the rows beside it.
#pragma once

#include "cuda/decode/choice.cuh"
#include "cuda/decode/rows_products.cuh"
#include "cuda/decode/worker_base.cuh"

namespace bolide::decode {

// kRows: at most so many rows.
template <class S, int kRows, Probe kProbe>
struct RowsWorker : WorkerBase<S, kRows, kProbe> {
  using Base = WorkerBase<S, kRows, kProbe>;
  using Words = RowWords<S>;
  using Base::base_epoch;
  using Base::forget_places;
  using Base::inverse_rms;
  using Base::lane;
  using Base::last;
  using Base::mark;
  using Base::meet_workers;
  using Base::own_sums;
  using Base::p;
  using Base::parity;
  using Base::ring;
  using Base::sampling_of;
  using Base::sh;
  using Base::total;
  using Base::warp;
  using Base::where;
  using HiddenColumns = typename S::HiddenColumns;
  // Warps that share a row's attention, and blocks of a key/value head that do.
  static constexpr int kTeam = S::kBlocksOfRow ? kWarps : kWarps / kRows, kBlocksOfRow = S::row_blocks(kRows);
  static constexpr int kOctets = octets_of(S::kOwnRows);  // of the residual stream
  static constexpr int kOctetsAtOnce = kThreads / (8 * kRows);
  static constexpr int kOwned = (kOctets + kOctetsAtOnce - 1) / kOctetsAtOnce;  // elements of the residual stream that a thread owns
  float residual[kOwned] = {};                                                  // of the thread's Place, and so many octets further

  __device__ RowsWorker(const Parameters& parameters, SharedBase<S, kRows>& shared, const Ring<Base::kStages>& r)
      : Base(parameters, shared, r) {}

  // A thread's places, made anew where they are asked for: registers that hold them through a layer would be missing elsewhere.
  __device__ static int thread() {
    int t;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(t));
    return t;
  }
  __device__ static int block() {
    int b;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(b));
    return b;
  }
  __device__ static int group() { return block() / S::kHeadBlocks; }
  __device__ static int rank() { return block() % S::kHeadBlocks; }
  __device__ int rows() const { return sh.rows; }
  // Of attention, and which of its team a warp is.
  __device__ int own_row() const {
    if constexpr (S::kBlocksOfRow)
      return rank() / kBlocksOfRow;
    else
      return warp / kTeam;
  }
  __device__ int own_place() const { return S::kBlocksOfRow ? 0 : own_row(); }  // in shared memory
  __device__ auto& own_attention() const { return sh.attention.row[own_place()]; }
  __device__ int part() const { return warp % kTeam; }
  // Of a product after the warps' shares are summed: a warp's are all of one octet.
  struct Place {
    int output, row, octet;
    __device__ Place() {
      const int t = thread();
      output = t % 8, row = t / 8 % kRows, octet = t / (8 * kRows);
    }
    // A whole warp's answer; and whether the octet's row is there, too.
    __device__ bool has_octet(int i) const { return octet + i * kOctetsAtOnce < kOctets; }
    __device__ bool owns_residual(int i) const {
      if constexpr (S::kWhole)
        return has_octet(i);
      else
        return 8 * (octet + i * kOctetsAtOnce) + output < S::hidden_rows(RowsWorker::block());
    }
    __device__ int residual_at(int block, int i) const { return S::hidden_row(block) + 8 * (octet + i * kOctetsAtOnce) + output; }
    // Of the octet's sum of squares among those of all blocks.
    __device__ int squares_at(int residual_at, int i) const {
      return S::kWhole ? residual_at / 8 : kOctets * RowsWorker::block() + octet + i * kOctetsAtOnce;
    }
    // Of an octet's product.
    __device__ int sum_of(int of_octet) const { return sum_at<kRows>(of_octet, row, output); }
  };
  __device__ void meet_team() {
    if (kTeam == 1)
      __syncwarp();
    else
      meet(2 + own_row(), 32 * kTeam);
  }
  __device__ uint64_t* own_words(int of_row) const { return p.words + Words::kRows + of_row * Words::kOwn; }
  __device__ void leave_squares(int of_row, float squares) { sh.squares[parity][of_row][warp] = squares; }
  template <class C, int N>
  __device__ void poll(RowsPart<N, kRows>& x, int from, int first_stage, uint32_t epoch, int layer, Phase phase) {
    mark(phase, loading);
    const int at = from + first_stage * words_of_columns(C::kWidth);
    poll_rows<C>(x, p.words + at, nullptr, first_stage, rows(), warp, lane, epoch, ring.patience, where(layer, phase));
    mark(phase, waiting);
  }
  // With the sums of squares of the residual stream's rows.
  __device__ void poll_hidden(RowsPart<S::kHidden, kRows>& x, int from, int squares_from, uint32_t epoch, int layer, Phase phase) {
    mark(phase, loading);
    const float squares = poll_rows<HiddenColumns>(x, p.words + from, p.words + squares_from, 0, rows(), warp, lane, epoch, ring.patience,
                                                   where(layer, phase));
    const int of_row = row_of_squares(lane);
    if ((lane & 6) == 0 && of_row < kRows) leave_squares(of_row, squares);
    mark(phase, waiting);
  }
  // Where an element of a vector goes that begins at `from`, and an octet's sum of squares.
  __device__ uint64_t* word_for(int from, int element, int of_row) const {
    return p.words + from + word_of(element / 8, of_row) + element / 4 % 2;
  }
  __device__ uint32_t* squares_for(int from, int octet, int of_row) const {
    return reinterpret_cast<uint32_t*>(p.words + from) + octet * kMaxRows + of_row;
  }
  // Eight elements of a row, by eight lanes, of which each names its word and every fourth writes.
  __device__ static void publish_elements(uint64_t* to, float v, bool present, uint32_t epoch) {
    const uint32_t pair = pack_bf16(v, __shfl_down_sync(kAllLanes, v, 1)), next = __shfl_down_sync(kAllLanes, pair, 2);
    if (present) store_four(to, pair, next, epoch);
  }

  __device__ int token(int of_row) const {
    const int32_t id = sh.now.tokens[of_row];
    if (id >= 0 && id < p.vocab) return id;
    if (block() == 0 && warp == 0) report_fault(p.fault, DeviceFault::bad_token, of_row, id);
    return 0;
  }
  __device__ void embed(RowsPart<S::kHidden, kRows>& x) {
    constexpr bool kHalves = RowsPart<S::kHidden, kRows>::kHalves;
    constexpr int kLaneColumns = kHalves ? 4 : 8;
    const int n = lane / 4 % kRows, of_row = n < rows() ? n : 0;
    const __nv_bfloat16* from = p.table + static_cast<int64_t>(token(of_row)) * S::kD;
    const float* norm = sh.layers[0].input_norm;
    float squares = 0.0f;
#pragma unroll 1
    for (int s = 0; s < S::kHidden; ++s) {
      uint32_t made[4][kLaneColumns / 2];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = HiddenColumns::kWidth * s + 128 * warp + 32 * i + 8 * (lane & 3) + (kHalves ? lane >> 4 << 2 : 0);
        if (!HiddenColumns::holds(s, warp, i)) {
#pragma unroll
          for (int j = 0; j < kLaneColumns / 2; ++j) made[i][j] = 0;
          continue;
        }
#pragma unroll
        for (int j = 0; j < kLaneColumns / 2; ++j) {
          const uint32_t pair = *reinterpret_cast<const uint32_t*>(from + column + 2 * j);
          const float2 w = *reinterpret_cast<const float2*>(norm + column + 2 * j);
          const float a = low_bf16(pair) * p.embed_scale, b = high_bf16(pair) * p.embed_scale;
          squares += a * a + b * b;
          made[i][j] = pack_bf16(a * w.x, b * w.y);
        }
      }
#pragma unroll
      for (int i = 0; i < 4 * S::kHidden; ++i) {
#pragma unroll
        for (int j = 0; j < kLaneColumns / 2; ++j) {
          if (i / 4 == s) x.v[i / 4][i % 4][j] = made[i % 4][j];
        }
      }
    }
    squares += __shfl_xor_sync(kAllLanes, squares, 1);
    squares += __shfl_xor_sync(kAllLanes, squares, 2);
    if (kHalves) squares += __shfl_xor_sync(kAllLanes, squares, 16);
    if (lane % 4 == 0 && lane / 4 < kRows) leave_squares(n, squares);
    embed_residual();
  }
  __device__ void embed_residual() {
    const Place own;
    const __nv_bfloat16* own_from = p.table + static_cast<int64_t>(own.row < rows() ? token(own.row) : 0) * S::kD;
#pragma unroll
    for (int i = 0; i < kOwned; ++i)
      residual[i] =
          own.owns_residual(i) && own.row < rows() ? __bfloat162float(own_from[own.residual_at(block(), i)]) * p.embed_scale : 0.0f;
  }

  __device__ static int own_qkv_rows() {
    if constexpr (S::kWhole)
      return S::kOwnQkv;
    else
      return S::qkv_rows(group(), rank());
  }
  __device__ void qkv(const Layer& l, int layer, uint32_t epoch) {
    forget_places();
    const int count = own_qkv_rows(), octets = S::kEvenHeadOctets ? S::kHeadOctets : octets_of(count);
    if (count == 0) {  // not in whole shapes
      if (layer == 0) embed_residual();
      return;
    }
    RowsPart<S::kHidden, kRows> x;
    rows_product<HiddenColumns, S::kHeadOctets, kRows, S::kEvenHeadOctets>(ring, octets, x, own_sums(), warp, lane, [&] {
      if (layer > 0)
        poll_hidden(x, Words::kHiddenIn, Words::kSquaresIn, epoch - 1, layer, qkv_product);
      else
        embed(x);  // here, so that x need not be kept through a layer
    });
    const Place own;  // beside the others' products
    meet_workers();
    const float scale = inverse_rms(own.row);
    for (int o = own.octet; o < octets; o += kOctetsAtOnce) {
      const int local = S::kWhole ? 8 * (rank() * S::kHeadOctets + o) + own.output : S::local_row(rank()) + 8 * o + own.output;
      const bool present = S::kWhole || 8 * o + own.output < count;
      float v = total(own.sum_of(o)) * scale;
      if (l.qkv_bias && present) v += l.qkv_bias[qkv_row<S>(group(), local)];
      const float next = __shfl_down_sync(kAllLanes, v, 1);
      if (own.output % 2 == 0 && present && own.row < rows())
        store_floats(own_words(own.row) + Words::kHeads + (group() * S::kHeadRows + local) / 2, v, next, epoch);
    }
    parity ^= 1;
    mark(qkv_product, computing);
  }

  // The warp's row: norm and rotation of its heads, its blocks of positions, and the combination of its parts from all blocks.
  __device__ void make_heads(const Layer& l, int layer, uint32_t epoch);
  // A round of the rows' blocks: the warp's own turn, and bit m for row m whose block is in the stream.
  struct Round {
    Turn own;
    uint32_t cached;
  };
  __device__ Round round_at(int window, int number) const;
  __device__ void attend(Round round, int window, int layer, uint32_t epoch);
  template <class Lanes>
  __device__ void publish_own(Lanes& lanes, bool joined, int layer, uint32_t epoch);
  // The outputs of a block's positions to who combines them, and the combination: in whole shapes each block has a share of a group's
  // outputs, in others eights here and there (parts.cuh).
  template <class Lanes>
  __device__ void publish_part(const Lanes& lanes, uint32_t epoch) {
    if constexpr (S::kWhole)
      publish_shares(lanes, epoch);
    else
      publish_parts(lanes, epoch);
  }
  template <class Lanes>
  __device__ void publish_shares(const Lanes& lanes, uint32_t epoch);
  template <class Lanes>
  __device__ void publish_parts(const Lanes& lanes, uint32_t epoch);
  __device__ bool owns_new_position() const {
    return sh.now.own.context[own_row()] / S::kPositions % kBlocksOfRow == rank_in_row<kBlocksOfRow>(rank(), own_row());
  }
  __device__ void append(int layer);
  __device__ void combine(int layer, uint32_t epoch) {
    if constexpr (S::kWhole)
      combine_shares(layer, epoch);
    else
      combine_parts(layer, epoch);
  }
  __device__ void combine_shares(int layer, uint32_t epoch);
  __device__ void combine_parts(int layer, uint32_t epoch);
  // Whether the block has a key/value head.
  __device__ static bool attends() { return S::kAllShare || group() < S::kKvHeads; }
  // Whether the warp has outputs of attention to combine.
  __device__ bool combines() const { return own_row() < rows() && (S::kWhole || (attends() && first_part() < S::kParts)); }
  __device__ int first_part() const { return (S::kBlocksOfRow ? rank() % kBlocksOfRow : rank()) + part() * kBlocksOfRow; }

  // residual += product(+ bias), then published under the next norm.
  template <class C>
  __device__ void project(int layer, int from, int to, int squares_to, const float* bias, const float* norm, uint32_t epoch, Phase phase) {
    forget_places();
    float weight[kOwned];
    {
      const Place own;
#pragma unroll
      for (int i = 0; i < kOwned; ++i) weight[i] = own.owns_residual(i) ? norm[own.residual_at(block(), i)] : 0.0f;
    }
    if constexpr (kOctets == 1) {
      RowsPart<C::kStages, kRows> x;
      rows_product<C, 1, kRows, true>(ring, 1, x, own_sums(), warp, lane, [&] { poll<C>(x, from, 0, epoch, layer, phase); });
    } else {
      rows_product_by_stages<C, kOctets, kRows>(ring, own_sums(), warp, lane,
                                                [&](auto& x, int first) { poll<C>(x, from, first, epoch, layer, phase); });
    }
    const Place own;  // beside the others' products
    int at = own.residual_at(block(), 0);
    uint64_t* words = word_for(to, at, own.row);
    uint32_t* squares_word = squares_for(squares_to, own.squares_at(at, 0), own.row);
    meet_workers();
#pragma unroll
    for (int i = 0; i < kOwned; ++i) {
      if (!own.has_octet(i)) break;
      if (i > 0) {
        at = own.residual_at(block(), i);
        words = word_for(to, at, own.row);
        squares_word = squares_for(squares_to, own.squares_at(at, i), own.row);
      }
      const bool present = S::kWhole || own.owns_residual(i);
      float v = total(own.sum_of(own.octet + i * kOctetsAtOnce));
      if (bias && present) v += bias[at];
      if (present) residual[i] += v;
      publish_elements(words, residual[i] * weight[i], own.output % 4 == 0 && present && own.row < rows(), epoch);
      float squares = residual[i] * residual[i];
      squares += __shfl_xor_sync(kAllLanes, squares, 1);
      squares += __shfl_xor_sync(kAllLanes, squares, 2);
      squares += __shfl_xor_sync(kAllLanes, squares, 4);
      uint32_t age = epoch;  // its lowest bit is made anew: made before the polls, it went to local memory where shapes are not whole
      asm volatile("" : "+r"(age));
      if (own.output == 0 && own.row < rows()) store_squares(squares_word, squares, age);
    }
    parity ^= 1;
    mark(phase, computing);
  }

  __device__ void gate_up(const Layer& l, int layer, uint32_t epoch) {
    forget_places();
    constexpr int kTurn = S::mlp_turn(kRows);
    RowsPart<S::kHidden, kRows> x;
    float scale = 0.0f;
    int first = 0;  // octet of the turn
    const auto fetch = [&] { poll_hidden(x, Words::kHiddenPost, Words::kSquaresPost, epoch, layer, gate_up_product); };
    const auto publish_turn = [&] {
      const Place own;  // beside the others' products
      const int turn = S::kMlpOctets % kTurn == 0 ? kTurn : min(kTurn, S::kMlpOctets - first);
      int at =
          S::kWhole ? 8 * (S::kMlp * block() + first + own.octet) + own.output : S::mlp_row(block()) + 8 * (first + own.octet) + own.output;
      uint64_t* words = word_for(Words::kMlp, at, own.row);
      meet_workers();
      if (first == 0) scale = inverse_rms(own.row);
      for (int o = own.octet; o < turn;) {
        const bool present = S::kWhole || at < S::mlp_row(block() + 1);
        float gate = total(own.sum_of(o)) * scale, up = total(own.sum_of(turn + o)) * scale;
        if (l.gate_up_bias && present) gate += l.gate_up_bias[at], up += l.gate_up_bias[S::kF + at];
        publish_elements(words, gated(p.activation, gate) * up, own.output % 4 == 0 && present && own.row < rows(), epoch);
        if ((o += kOctetsAtOnce) >= turn) break;
        at += 8 * kOctetsAtOnce;
        words = word_for(Words::kMlp, at, own.row);
      }
      first += kTurn;
      parity ^= 1;
      return own_sums();
    };
    rows_product<HiddenColumns, 2 * S::kMlpOctets, kRows, true, 2 * kTurn>(ring, 2 * S::kMlpOctets, x, own_sums(), warp, lane, fetch,
                                                                           publish_turn);
    mark(gate_up_product, computing);
  }

  // Logits of the block's octets, and the tokens where nothing but temperature shapes the distribution.
  __device__ void head(uint32_t epoch);
  __device__ void choose(bool plain, uint32_t epoch);
  // Where the kernel goes on by itself: the tokens, and whether it does. A stop id ends no launch here: the other rows' tokens are wanted.
  __device__ void choose_and_go_on(BestLogit best, uint32_t epoch);

  // All layers and the head.
  __device__ void step() {
    if (own_row() < rows()) {
      float2 turn[S::kTurns] = {};
      make_turn<S>(sh.now.positions[own_row()], p.inverse_frequencies, lane, turn);
#pragma unroll
      for (int i = 0; i < S::kTurns; i += 2)
        sh.attention.turns[own_place()][i / 2][lane] = make_float4(turn[i].x, turn[i].y, turn[i + 1].x, turn[i + 1].y);
      __syncwarp();
    }
    for (int layer = 0; layer < p.layer_count; ++layer) {
      const Layer& l = sh.layers[layer];
      const uint32_t epoch = base_epoch + layer + 1;
      qkv(l, layer, epoch);
      forget_places();
      if (attends()) {
        const Round first = round_at(l.window, 0);
        if (own_row() < rows()) make_heads(l, layer, epoch);
        attend(first, l.window, layer, epoch);
        forget_places();
      }
      if (combines())
        combine(layer, epoch);
      else
        __nanosleep(600);  // the others still combine: no polls in their way
      project<typename S::QueryColumns>(layer, Words::kAttention, Words::kHiddenPost, Words::kSquaresPost, l.output_bias, l.post_norm,
                                        epoch, output_product);
      gate_up(l, layer, epoch);
      project<typename S::MlpColumns>(layer, Words::kMlp, Words::kHiddenIn, Words::kSquaresIn, l.down_bias, l.next_norm, epoch,
                                      down_product);
    }
    base_epoch += p.layer_count;
    head(base_epoch);
  }
  __device__ void run() {
    long long begin_ns = 0, begin = 0;
    if (kProbe == Probe::clocks) begin_ns = global_nanoseconds(), begin = clock64();
    base_epoch = *static_cast<const volatile uint32_t*>(p.epoch);
    last = begin;
    do step();
    while (S::kGoesOn && p.mailbox && sh.goes_on);
    // Every block has read the epoch by now: this one has seen what they all made with it.
    if (block() == 0 && threadIdx.x == 0) *p.epoch = base_epoch;
    ring.patience.report(p.fault);
    if (kProbe == Probe::clocks && threadIdx.x == 0) {
      for (int i = 0; i < kBlockClocks; ++i) p.clocks[block() * kBlockClocks + i] += sh.clocks[i];
      if (block() == 0) {
        p.clocks[kBlocks * kBlockClocks] += global_nanoseconds() - begin_ns;
        p.clocks[kBlocks * kBlockClocks + 1] += clock64() - begin;
      }
    }
  }
};

}  // namespace bolide::decode
