// Decode attention of many sequences: what the workers of a block leave of their tiles is added up to the rows' results
// (kernels/attention_many.cu).
#pragma once

#include <cuda_bf16.h>

#include "cuda/device/convert.cuh"
#include "cuda/device/kv_tiles.cuh"
#include "cuda/device/pipeline.cuh"
#include "cuda/device/tile_attention.cuh"

namespace bolide {

// A running sum of softmax parts: the lane's kVectors vectors of 4 elements, o [group][Dh] dealt to the lanes in turn.
template <int kDh, int kVectors>
struct PartSum {
  float2 ml[kVectors];
  float4 o[kVectors];

  __device__ static int head(int i) { return (i * 32 + static_cast<int>(threadIdx.x & 31)) / (kDh / 4); }
  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) ml[i] = make_float2(-INFINITY, 0.0f), o[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  }
  // Adds a later part. The operations are spelled out, so that every place that adds parts gives the same bits.
  __device__ void add(int i, float2 part_ml, float4 part) {
    const float top = fmaxf(ml[i].x, part_ml.x);
    const float mine = ml[i].x == -INFINITY ? 0.0f : exp2_fast(__fsub_rn(ml[i].x, top));
    const float its = part_ml.x == -INFINITY ? 0.0f : exp2_fast(__fsub_rn(part_ml.x, top));
    const auto sum = [&](float a, float b) { return __fmaf_rn(a, mine, __fmul_rn(b, its)); };
    ml[i] = make_float2(top, sum(ml[i].y, part_ml.y));
    o[i] = make_float4(sum(o[i].x, part.x), sum(o[i].y, part.y), sum(o[i].z, part.z), sum(o[i].w, part.w));
  }
};

// Adds up what the workers leave, in the order of the line.
//
// Block: what the kernel knows (ManyBlock in kernels/attention_many.cu). kVectors: of 4 elements that a lane has of a unit's o.
template <class Block, int kVectors>
struct PartMerger {
  static constexpr int kDh = Block::kHeadDim;
  using Sum = PartSum<kDh, kVectors>;
  static constexpr int kAtOnce = (Block::kRunsBeside ? 8 : 16) / kVectors;  // parts of a cut unit that are asked for at once
  static constexpr bool kReadsAhead = kVectors <= 2;                        // as registers allow

  const Block& block;
  const decltype(block.p)& p = block.p;
  const decltype(block.shared)& shared = block.shared;
  const int lane = block.lane;

  // A unit that may be cut between blocks, and the block's own parts of it, [first, past) of `count`.
  struct CutUnit {
    bool is_cut;
    int first, past, count;
    float* parts = nullptr;
    int32_t* arrivals = nullptr;  // parts that have been counted

    __device__ CutUnit(const PartMerger& m, const TilePlace& unit, int past_tile, int part)
        : is_cut(unit.tile > 0 || past_tile < unit.tiles),
          first(unit.tile / part),
          past((past_tile + part - 1) / part),
          count((unit.tiles + part - 1) / part) {
      if (!is_cut) return;
      const int number = m.block.line.cut_unit(unit, gridDim.x);
      parts = m.p.parts + static_cast<int64_t>(number) * kMaxParts * m.shared.record;
      arrivals = m.p.arrivals + number;
    }
    __device__ int others() const { return count - (past - first); }
    __device__ bool others_have_arrived() const {
      int32_t seen;
      asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(seen) : "l"(arrivals) : "memory");
      __syncwarp();
      return __shfl_sync(kAllLanes, seen, 0) == others();
    }
  };
  // Parts of a cut unit that are asked for at once: the first kAtOnce of `count`, or all.
  struct Parts {
    float4 o[kAtOnce][kVectors];
    float2 ml[kAtOnce][kVectors];

    __device__ __forceinline__ void load(const PartMerger& m, const float* parts, int count) {
#pragma unroll
      for (int part = 0; part < kAtOnce; ++part) {
#pragma unroll
        for (int i = 0; i < kVectors; ++i) {
          if (part >= count || !m.has(i)) continue;
          const float* from = parts + part * m.shared.record;
          o[part][i] = __ldcg(reinterpret_cast<const float4*>(from) + i * 32 + m.lane);
          ml[part][i] = __ldcg(reinterpret_cast<const float2*>(from + m.p.group * kDh) + Sum::head(i));
        }
      }
    }
    __device__ __forceinline__ void add_to(const PartMerger& m, Sum& all, int count) const {
#pragma unroll
      for (int part = 0; part < kAtOnce; ++part) {
#pragma unroll
        for (int i = 0; i < kVectors; ++i) {
          if (part < count && m.has(i)) all.add(i, ml[part][i], o[part][i]);
        }
      }
    }
  };

  // Whether the lane has a vector i.
  __device__ bool has(int i) const { return i * 32 + lane < p.group * kDh / 4; }

  __device__ void merge() const {
    const int first = block.first, end = block.end;
    int stage = 0;
    uint32_t parity = 0;
    if (first >= end) return;
    for (TilePlace unit = block.line.find(first);; unit = block.line.next(unit)) {
      const int part = part_tiles(unit.tiles), past = min(unit.tiles, end - unit.begin);  // the end of the block's tiles of the unit
      const int row = block.a.in.query_offsets[unit.sequence];
      const CutUnit cut(*this, unit, past, part);
      Sum all, sum;
      all.clear();
      // Nobody comes behind the block whose share ends here if all others have been: their parts are read beforehand, its own stay here.
      const bool last = unit.tile == 0 && past < unit.tiles && cut.others_have_arrived();
      int to_add = cut.is_cut ? 0 : cut.count;  // the first part that is to be read
      Parts behind;
      if (last) {
        to_add = cut.past;
        if constexpr (kReadsAhead) {
          behind.load(*this, cut.parts + to_add * shared.record, cut.count - to_add);
          to_add = min(to_add + kAtOnce, cut.count);
        }
      }
      for (int tile = unit.tile; tile < past;) {
        const int index = tile / part;
        sum.clear();
        for (const int part_end = min(tile + part, past); tile < part_end; ++tile) {
          add_tile(sum, stage, parity);
          if (++stage == p.stages) stage = 0, parity ^= 1;
        }
        if (cut.is_cut && !last) {
          store_part(sum, cut.parts + index * shared.record);
        } else {
#pragma unroll
          for (int i = 0; i < kVectors; ++i) all.add(i, sum.ml[i], sum.o[i]);
        }
      }
      if (last) {
        if constexpr (kReadsAhead) behind.add_to(*this, all, cut.count - cut.past);
        if (lane == 0) *cut.arrivals = 0;
      }
      if (!cut.is_cut || last || arrive_last(cut)) {
        for (; to_add < cut.count; to_add += kAtOnce) {
          behind.load(*this, cut.parts + to_add * shared.record, cut.count - to_add);
          behind.add_to(*this, all, cut.count - to_add);
        }
        store_row(all, row, unit.kv_head);
      }
      if (unit.begin + past >= end) return;
    }
  }

 private:
  __device__ void add_tile(Sum& sum, int stage, uint32_t parity) const {
    wait(shared.record_full[stage], parity, p.fault);
    const float2* ml = shared.ml(stage, p.group, kDh);
    const float4* o = reinterpret_cast<const float4*>(shared.records + stage * shared.record);
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (has(i)) sum.add(i, ml[Sum::head(i)], o[i * 32 + lane]);
    }
    __syncwarp();
    if (lane == 0) arrive(shared.record_empty[stage]);
  }
  __device__ void store_part(const Sum& part, float* to) const {
    float2* ml = reinterpret_cast<float2*>(to + p.group * kDh);
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (!has(i)) continue;
      reinterpret_cast<float4*>(to)[i * 32 + lane] = part.o[i];
      if ((i * 32 + lane) % (kDh / 4) == 0) ml[Sum::head(i)] = part.ml[i];
    }
  }
  // Counts the block's parts of a cut unit; whether all are there then.
  __device__ bool arrive_last(const CutUnit& cut) const {
    __threadfence();
    __syncwarp();
    int seen = 0;
    if (lane == 0) seen = atomicAdd(cut.arrivals, cut.past - cut.first);
    if (__shfl_sync(kAllLanes, seen, 0) != cut.others()) return false;
    __threadfence();
    if (lane == 0) *cut.arrivals = 0;
    return true;
  }
  __device__ void store_row(const Sum& sum, int row, int kv_head) const {
    uint2* to = reinterpret_cast<uint2*>(static_cast<__nv_bfloat16*>(block.a.out) +
                                         (static_cast<int64_t>(row) * block.a.heads + kv_head * p.group) * kDh);
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (!has(i)) continue;
      const float inverse = 1.0f / sum.ml[i].y;
      to[i * 32 + lane] =
          make_uint2(pack_bf16(sum.o[i].x * inverse, sum.o[i].y * inverse), pack_bf16(sum.o[i].z * inverse, sum.o[i].w * inverse));
    }
  }
};

}  // namespace bolide
