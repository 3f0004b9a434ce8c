// The stream of a block: its share of all weights, and of the sequences' K and V, in the order of use, through a ring in shared memory. One
// thread brings it and never waits for other blocks, so that it runs ahead into the next phase and the next layer.
//
// A stage of weights is 8 rows ("octet") of kStageColumns columns. A stage of K and V is a block of kPositions positions of one head: K
// rows, then V rows.
//
// Who owns what: block b of kBlocks makes the octets [b * n, (b + 1) * n) of the n a matrix has for each block; of gate_up the gate octets,
// then the up octets of the same outputs; of the head, octets b, b + kBlocks, ... Of the QKV product, some blocks share the rows of
// one key/value head (its query heads, then K, then V), and that head's blocks of positions go round among the same blocks. Where octets
// cannot be shared out evenly, rows are (shape.cuh). With several rows, gate and up take turns of so many octets as S::mlp_turn says, and
// a block's octets of the residual stream come stage by stage.
#pragma once

#include "cuda/decode/edges.cuh"
#include "cuda/decode/probe.cuh"
#include "cuda/decode/shape.cuh"
#include "cuda/decode/steps.cuh"
#include "cuda/device/kv.cuh"

namespace bolide::decode {

template <class S, int kStages, int kRows, Probe kProbe>
struct Producer {
  static constexpr bool kGoesOn = S::kGoesOn;

  const Parameters& p;
  const Layer* layers;
  Steps<S, kRows>& steps;
  char* ring;
  uint64_t *full, *empty;
  RingPlace<kStages> place;
  uint32_t due;  // the next copy, in clocks
  int pace = 0;
  int unasked = 0;  // stages until it has to be known that the workers go on with the step
  Patience patience;
  Delays delays;

  __device__ Producer(const Parameters& parameters, const Layer* table, Steps<S, kRows>& shared, char* ring_data, uint64_t* f, uint64_t* e)
      : p(parameters),
        layers(table),
        steps(shared),
        ring(ring_data),
        full(f),
        empty(e),
        due(clocks()),
        delays(kProbe == Probe::delays ? *parameters.epoch : 0, kWarps) {}

  // The lower half, which goes round in two seconds: this thread has no registers left.
  __device__ static uint32_t clocks() { return static_cast<uint32_t>(clock64()); }

  // Not faster than one copy in p.pace clocks, catching up over a stage at most: a deep ring at full speed floods the memory system after
  // every stall, and then the few words that blocks wait for take ten times as long.
  __device__ void copy(char* to, const void* from, uint32_t bytes) {
    await_turn(bytes);
    bring(to, from, bytes);
  }
  __device__ void await_turn(uint32_t bytes) {
    const int gap = static_cast<int>(bytes) * pace >> 11;
    constexpr uint32_t kAhead = 1 << 24;  // more than `due` ever is: all other differences are clocks gone by
    const auto most_late = static_cast<uint32_t>(8 * pace);
    uint32_t late;
    do late = clocks() - due;
    while (late > ~kAhead);
    due += gap + (late > most_late ? late - most_late : 0);
  }
  __device__ void bring(char* to, const void* from, uint32_t bytes) {
    // What createpolicy.fractional.L2::evict_first makes of 1.0, as a number that takes no registers (the one in CUTLASS, too): the stream
    // must not push the edges' words out of L2.
    constexpr uint64_t policy = 0x12F0000000000000;
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(full + place.stage)), "l"(policy)
                 : "memory");
  }
  // Behind so many stages of a step as the ring holds (the host sees to it that a step has more), the next would wait for workers that may
  // have left: then this thread ends here. (A check at every stage, or a way back out of the loops, costs more than it looks: the thread
  // has no registers left, and memory is hardly slower.)
  __device__ void await_workers() {
    if constexpr (kGoesOn) {
      const int at = steps.stream_begun;
      while (steps.workers_begun < at && !steps.stop) continue;
      if (steps.workers_begun >= at) return;
      // Not before the block's copies have ended.
      RingPlace<kStages> begun{steps.stream_place >> 1, static_cast<uint32_t>(steps.stream_place & 1)};
      for (; begun.stage != place.stage || begun.parity != place.parity; begun.next())
        wait(full[begun.stage], begun.parity, patience, kStreamPhase);
      patience.report(p.fault);
      asm volatile("exit;");
    }
  }
  __device__ char* next_slot(uint32_t bytes) {
    if (kProbe == Probe::delays) delays.sleep();
    if (kGoesOn && --unasked == 0) await_workers();
    wait(empty[place.stage], place.parity ^ 1, patience, kRoomPhase);
    arrive_expecting(full[place.stage], bytes);
    return ring + place.stage * kStageBytes;
  }
  // Eight rows of C's columns, from `first_row` on. What is in the way of a stage's copies makes this thread slower than memory: a loop
  // around them, additions of what the compiler could know, and words that went to local memory.
  template <class C>
  __device__ void octet(const __nv_bfloat16* weight, int first_row) {
    const __nv_bfloat16* from = weight + static_cast<int64_t>(first_row) * C::kAll;
#pragma unroll 1
    for (int s = 0; s < C::kStages; ++s, from += kStageColumns) stage<C>(from);
  }
  template <class C>
  __device__ void stage(const __nv_bfloat16* from) {
    char* to = next_slot(kStageBytes);
#pragma unroll
    for (int row = 0; row < 8; ++row) copy(to + row * kRowBytes, from + row * C::kAll, kRowBytes);
    place.next();
  }
  // The same with `row_stages` stages to a row, where one piece of code for all matrices is faster than one for each: where vectors are
  // of one stage. Rows of one stage are one piece of memory and go in larger copies, which cost the other blocks' words less time on their
  // way.
  __device__ void octet(const __nv_bfloat16* weight, int first_row, int row_stages) {
    const int columns = row_stages * kStageColumns;
    const __nv_bfloat16* from = weight + static_cast<int64_t>(first_row) * columns;
#pragma unroll 1
    for (int s = 0; s < row_stages; ++s) {
      char* to = next_slot(kStageBytes);
      if (row_stages == 1) {
#pragma unroll
        for (int piece = 0; piece < 4; ++piece) copy(to + piece * 2 * kRowBytes, from + piece * 2 * kStageColumns, 2 * kRowBytes);
      } else {
        const __nv_bfloat16* at = from + s * kStageColumns;
#pragma unroll
        for (int row = 0; row < 8; ++row, at += columns) copy(to + row * kRowBytes, at, kRowBytes);
      }
      place.next();
    }
  }
  // The block's octets of the residual stream, where it has several.
  template <class C>
  __device__ void hidden_octets(const __nv_bfloat16* weight, int block) {
    const int first_row = 8 * S::kHidden * block;
    if constexpr (kRows == 1) {
#pragma unroll 1
      for (int o = 0; o < S::kHidden; ++o) octet<C>(weight, first_row + 8 * o);
    } else {
      // In turns: all octets' first stages, then their second, ...
      const __nv_bfloat16* first = weight + static_cast<int64_t>(first_row) * C::kAll;
#pragma unroll 1
      for (int s = 0; s < C::kStages; ++s, first += kStageColumns) {
#pragma unroll 1
        for (int o = 0; o < S::kHidden; ++o) stage<C>(first + 8 * o * C::kAll);
      }
    }
  }
  // An even number of rows, eight at most, of matrix C, from column `at` on. Two are one copy where they are one piece of memory, else two
  // copies that wait for their turn together.
  template <class C>
  __device__ void part_stage(const __nv_bfloat16* from, int at, int count) {
    const uint32_t bytes = 2 * min(C::kWidth, C::kAll - at);
    char* to = next_slot(count * bytes);
#pragma unroll
    for (int row = 0; row < 8; row += 2) {
      if (row >= count) break;
      if (C::kStages == 1) {
        copy(to + row * C::kPitch, from + row * C::kAll, 2 * C::kPitch);
      } else {
        await_turn(2 * bytes);
        bring(to + row * C::kPitch, from + row * C::kAll + at, bytes);
        bring(to + (row + 1) * C::kPitch, from + (row + 1) * C::kAll + at, bytes);
      }
    }
    place.next();
  }
  template <class C>
  __device__ void part_octet(const __nv_bfloat16* weight, int first_row, int count) {
    const __nv_bfloat16* from = weight + static_cast<int64_t>(first_row) * C::kAll;
#pragma unroll 1
    for (int at = 0; at < C::kAll; at += C::kWidth) part_stage<C>(from, at, count);
  }
  // `count` rows in octets: all octets' first stages, then their second, ...
  template <class C>
  __device__ void part_octets_by_stages(const __nv_bfloat16* weight, int first_row, int count) {
#pragma unroll 1
    for (int at = 0; at < C::kAll; at += C::kWidth) {
#pragma unroll 1
      for (int row = 0; row < count; row += 8)
        part_stage<C>(weight + static_cast<int64_t>(first_row + row) * C::kAll, at, min(8, count - row));
    }
  }
  // part_rows() of several rows.
  __device__ void part_rows_in_turns(const __nv_bfloat16* weight, int phase, int block, int group, int rank, int head_octets) {
    constexpr int kTurn = 8 * S::mlp_turn(kRows);
    const bool is_mlp = head_octets < 0 && phase == 2;
    if (head_octets < 0 && phase == 1)
      return part_octets_by_stages<typename S::QueryColumns>(weight, S::hidden_row(block), S::hidden_rows(block));
    if (head_octets < 0 && phase == 3)
      return part_octets_by_stages<typename S::MlpColumns>(weight, S::hidden_row(block), S::hidden_rows(block));
    const int count = head_octets >= 0 ? 8 * head_octets : is_mlp ? S::mlp_rows(block) : S::qkv_rows(group, rank);
    const int first = head_octets >= 0 ? 8 * block : is_mlp ? S::mlp_row(block) : S::local_row(rank);
    const int turn = is_mlp ? kTurn : count;
#pragma unroll 1
    for (int begin = 0; begin < count; begin += turn) {
#pragma unroll 1
      for (int up = 0; up < (is_mlp ? 2 : 1); ++up) {
#pragma unroll 1
        for (int at = begin; at < min(begin + turn, count); at += 8) {
          const int row = head_octets >= 0 ? at * kBlocks + first : is_mlp ? first + at + up * S::kF : qkv_row<S>(group, first + at);
          part_octet<typename S::HiddenColumns>(weight, row, min(8, count - at));
        }
      }
    }
  }
  // The block's rows of a phase in shapes that are not whole. head_octets: below 0 but for the head.
  __device__ void part_rows(const __nv_bfloat16* weight, int phase, int block, int group, int rank, int head_octets) {
    const bool is_head = head_octets >= 0;
    const int first = phase == 0 ? S::local_row(rank) : phase == 2 ? S::kOwnMlp * block : S::hidden_row(block);
    const int count = is_head ? 8 * head_octets : phase == 0 ? S::qkv_rows(group, rank) : phase == 2 ? S::kOwnMlp : S::hidden_rows(block);
#pragma unroll 1
    for (int up = 0; up < (phase == 2 ? 2 : 1); ++up) {
#pragma unroll 1
      for (int at = 0; at < count; at += 8) {
        const int rows = min(8, count - at);
        if (phase == 3) {
          part_octet<typename S::MlpColumns>(weight, first + at, rows);
        } else if (S::kQ != S::kD && phase == 1) {
          part_octet<typename S::QueryColumns>(weight, first + at, rows);
        } else {
          const int row = is_head ? at * kBlocks + 8 * block : phase == 0 ? qkv_row<S>(group, first + at) : first + at + up * S::kF;
          part_octet<typename S::HiddenColumns>(weight, row, rows);
        }
      }
    }
  }
  __device__ void keys_and_values(int layer, int window, int group, int rank) {
    constexpr int kHalf = kStageBytes / 2;
    if (!S::kAllShare && group >= S::kKvHeads) return;
    const OwnBlocks<kRows, S::kGoesOn>& own = own_of_stream(steps);
    const __nv_bfloat16* base = kv_row<__nv_bfloat16>(p.kv, layer, 0, group, false, 0);
    const int64_t to_values = static_cast<int64_t>(p.kv.chunk_tokens) * S::kHeadDim;
    const int rounds = rounds_of<S::row_blocks(kRows)>(own, window, S::kPositions);
#pragma unroll 1
    for (int round = 0; round < rounds; ++round) {
#pragma unroll 1
      for (int row = 0; row < (kRows == 1 ? 1 : steps.rows); ++row) {
        const Turn turn = turn_of<S::row_blocks(kRows)>(own, rank, window, round, row, S::kPositions);
        const int cached = own.context[row] - turn.first;  // positions; the new one is with the workers
        if (!turn.present || cached <= 0) continue;
        const uint32_t bytes = min(S::kPositions, cached) * S::kHeadDim * 2;
        char* to = next_slot(2 * bytes);
        const __nv_bfloat16* keys = base + static_cast<int64_t>(own.offset[turn.at]) * (S::kPositions * S::kHeadDim);
#pragma unroll 1
        for (uint32_t at = 0; at < bytes; at += 2 * kRowBytes) {
          const uint32_t size = min(bytes - at, 2 * kRowBytes);
          copy(to + at, keys + at / 2, size);
          copy(to + kHalf + at, keys + to_values + at / 2, size);
        }
        place.next();
      }
    }
  }

  // Asked for anew in every phase: what is kept from phase to phase goes to local memory, and the stream falls behind for want of it.
  __device__ static int own_block() {
    int block;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block));
    return block;
  }
  __device__ void step() {
    for (int layer = 0; layer < steps.stream_layers; ++layer) {
      const bool is_head = layer == p.layer_count;
      const Layer& l = layers[is_head ? 0 : layer];
      pace = is_head ? p.head_pace : p.pace;
      int phase = is_head ? 4 : 0;
#pragma unroll 1
      do {
        const int block = own_block(), group = block / S::kHeadBlocks, rank = block % S::kHeadBlocks;
        const int head_octets = is_head ? (p.vocab / 8 - block + kBlocks - 1) / kBlocks : -1;  // where that is what comes
        if (phase == 1) {
          if (layer == 0) wait(steps.own_ready, 0, patience, kRoomPhase);
          keys_and_values(layer, l.window, group, rank);
        }
        const __nv_bfloat16* weight = is_head ? p.head : l.matrices[phase];
        if constexpr (!S::kWhole && kRows > 1) {
          part_rows_in_turns(weight, phase, block, group, rank, head_octets);
          continue;
        } else if constexpr (!S::kWhole) {
          part_rows(weight, phase, block, group, rank, head_octets);
          continue;
        }
        if constexpr (S::kHidden > 1) {
          if (phase == 1) hidden_octets<typename S::QueryColumns>(weight, block);
          if (phase == 3) hidden_octets<typename S::MlpColumns>(weight, block);
          if (phase % 2 == 1) continue;
        }
        const int row_stages = phase == 1 ? S::kQueries : phase == 3 ? S::kMlp : S::kHidden;
        const int octets = is_head ? head_octets : phase == 0 ? S::kHeadOctets : phase == 2 ? 2 * S::kMlp : S::kHidden;
#pragma unroll 1
        for (int o = 0; o < octets; ++o) {
          int row = (block * S::kHidden + o) * 8;
          if (is_head) {
            row = (o * kBlocks + block) * 8;
          } else if (phase == 0) {
            row = qkv_row<S>(group, (rank * S::kHeadOctets + o) * 8);
          } else if (phase == 2 && S::mlp_turn(kRows) < S::kMlp) {
            constexpr int kTurn = S::mlp_turn(kRows);
            const int within = o % (2 * kTurn);
            row = (block * S::kMlp + o / (2 * kTurn) * kTurn + within % kTurn) * 8 + (within < kTurn ? 0 : S::kMlp * kStageColumns);
          } else if (phase == 2) {
            row = o < S::kMlp ? (block * S::kMlp + o) * 8 : S::kMlp * kStageColumns + (block * S::kMlp + o - S::kMlp) * 8;
          }
          if constexpr (S::kHidden > 1)
            octet<typename S::HiddenColumns>(weight, row);
          else
            octet(weight, row, row_stages);
        }
      } while (++phase < 4);
    }
  }

  // Waits for the inputs of the next step; false when there is none. What it keeps of steps lies in shared memory, for want of registers.
  __device__ bool next_step() {
    if constexpr (kGoesOn) {
      const int at = steps.stream_begun + 1;
      if (!p.mailbox || at == p.most_steps) return false;
      // Not by a wait that sleeps at the barrier: nobody arrives there when the workers leave.
      const long long start = clock64();
      while (!phase_is_over_now(steps.next_ready, (at - 1) & 1) && !steps.stop && !patience.where)
        if (clock64() - start > kStreamCycles) patience.give_up_stream(kInputsPhase);
      if (patience.where) steps.stalled = 1;
      if (patience.where || steps.stop) return false;
      steps.stream_place = place.stage << 1 | place.parity;
      steps.stream_begun = at;
      unasked = kStages + 1;
      return true;
    }
    return false;
  }
  __device__ void run() {
    do step();
    while (next_step());
    patience.report(p.fault);
  }
};

}  // namespace bolide::decode
