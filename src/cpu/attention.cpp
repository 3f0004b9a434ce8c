// out[t, h] = softmax(scale * q[t, h] . K) V over the row's own sequence.
//
// Work is cut into items: one KV head of one sequence and a tile of query rows with the heads that share it. An item walks over the
// sequence's positions in partitions whose borders depend on the sequence's length alone, and joins their partial states in order.
// Where there are few items for the threads (decode of few sequences), the partitions of an item are spread over the threads and
// joined afterwards in the same order: results do not depend on the number of threads, on batch mates, or on the chunk size.
// Scratch: per worker two states, the packed queries, a block's scores and widened rows; then the partial states of split items.
#include <algorithm>

#include "core/error.h"
#include "cpu/attention_kernels.h"
#include "cpu/kernels.h"
#include "cpu/streaming.h"

namespace bolide {
namespace {

constexpr int32_t kPartition = 256;  // positions, a multiple of kAttentionBlock; doubled until kMaxPartitions cover the sequence
constexpr int32_t kMaxPartitions = 64;
constexpr int32_t kItemsPerThread = 4;    // below this many, items are split
constexpr int64_t kInlineWork = 1 << 14;  // multiply-adds that one thread finishes while the others would still be joining

const bool kPrefetchL2 = streaming().into == PrefetchInto::l2;

constexpr size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

// Floats of one worker: its state, the state of the partition in hand, the kernel's work.
size_t worker_floats(int32_t head_dim) {
  return round_up(2 * max_state_floats(head_dim), 16) + round_up(attention_work_floats(head_dim), 16);
}
size_t offsets_bytes(int32_t sequences) { return round_up((static_cast<size_t>(sequences) + 1) * sizeof(int32_t), 64); }

struct AttentionPlan {
  const AttentionArgs& args;
  const CpuKvCache& kv;
  int32_t group;  // query heads per KV head
  int32_t lanes;
  int32_t* first_item;  // [S + 1] items of earlier sequences
  int32_t items = 0;
  int32_t max_partitions = 1;
  size_t max_state = 0;  // floats of the largest item's state
  int64_t work = 0;      // multiply-adds

  int32_t rows(int32_t s) const { return args.in->query_offsets[s + 1] - args.in->query_offsets[s]; }
  bool wide(int32_t s) const { return static_cast<int64_t>(rows(s)) * group > lanes / 2; }
  // Items of one KV head of a sequence.
  int32_t tiles(int32_t s) const { return wide(s) ? (rows(s) * group + 3 * lanes - 1) / (3 * lanes) : rows(s); }
};

int32_t partition_size(int32_t kv_length) {
  int32_t size = kPartition;
  while ((kv_length - 1) / size >= kMaxPartitions) size *= 2;
  return size;
}

void check_sequence(const AttentionPlan& plan, int32_t s) {
  const StepInputs& in = *plan.args.in;
  const int32_t length = in.kv_lengths[s], rows = plan.rows(s);
  const int64_t chunks = in.chunk_offsets[s + 1] - in.chunk_offsets[s];
  BOLIDE_CHECK(rows >= 0 && length >= rows && length <= chunks * plan.kv.spec().chunk_tokens);
}

void plan_items(AttentionPlan& plan) {
  const StepInputs& in = *plan.args.in;
  const int32_t sequences = in.counts->sequences;
  for (int32_t s = 0; s < sequences; ++s) {
    plan.first_item[s] = plan.items;
    check_sequence(plan, s);
    const int32_t rows = plan.rows(s), length = in.kv_lengths[s];
    if (rows == 0) continue;
    plan.items += plan.tiles(s) * plan.args.kv_heads;
    const int32_t visible = plan.args.window > 0 ? std::min<int32_t>(length, plan.args.window + rows) : length;
    plan.work += int64_t{2} * rows * plan.args.heads * plan.args.head_dim * visible;
    plan.max_partitions = std::max(plan.max_partitions, (length - 1) / partition_size(length) + 1);
    const int32_t queries =
        plan.wide(s) ? std::min(3 * plan.lanes, static_cast<int32_t>(round_up(rows * plan.group, plan.lanes))) : plan.group;
    plan.max_state = std::max(plan.max_state, static_cast<size_t>(plan.args.head_dim + 2) * static_cast<size_t>(queries));
  }
  plan.first_item[sequences] = plan.items;
  plan.max_state = round_up(plan.max_state, 16);
}

struct AttentionItem {
  AttentionTile tile;
  int32_t partition;    // positions per partition
  int32_t first, last;  // partitions that hold visible positions
};

void add_query(const AttentionPlan& plan, AttentionItem& item, int32_t row, int32_t head, int32_t length) {
  const AttentionArgs& args = plan.args;
  AttentionTile& tile = item.tile;
  const size_t at =
      (static_cast<size_t>(row) * static_cast<size_t>(args.heads) + static_cast<size_t>(head)) * static_cast<size_t>(args.head_dim);
  const int32_t position = args.in->positions[row];
  BOLIDE_CHECK(position >= 0 && position < length);
  const int32_t j = tile.count++;
  tile.query[j] = static_cast<const float*>(args.q.data) + at;
  tile.out[j] = static_cast<float*>(args.out.data) + at;
  tile.begin[j] = args.window > 0 ? std::max(0, position - args.window + 1) : 0;
  tile.end[j] = position + 1;
}

void find_item(const AttentionPlan& plan, int32_t index, AttentionItem& item) {
  const StepInputs& in = *plan.args.in;
  const int32_t* found = std::upper_bound(plan.first_item, plan.first_item + in.counts->sequences + 1, index) - 1;
  const auto s = static_cast<int32_t>(found - plan.first_item);
  const int32_t tiles = plan.tiles(s), within = index - *found;
  // Late tiles see the most positions: begin with them, so that the last items to be taken are short.
  const int32_t tile_index = tiles - 1 - within % tiles;
  AttentionTile& tile = item.tile;
  tile.kv = &plan.kv;
  tile.chunk_ids = in.chunk_ids + in.chunk_offsets[s];
  tile.layer = plan.args.layer;
  tile.kv_head = within / tiles;
  tile.head_dim = plan.args.head_dim;
  tile.scale = plan.args.scale;
  tile.wide = plan.wide(s);
  tile.prefetch_l2 = kPrefetchL2;
  tile.lanes = plan.lanes;
  const int32_t queries = plan.rows(s) * plan.group, size = tile.wide ? 3 * plan.lanes : plan.group;
  for (int32_t j = tile_index * size; j < std::min(queries, (tile_index + 1) * size); ++j) {
    add_query(plan, item, in.query_offsets[s] + j / plan.group, tile.kv_head * plan.group + j % plan.group, in.kv_lengths[s]);
  }
  // Rows are in order of position, so the first query sees the least and the last one the greatest positions.
  tile.first_begin = tile.begin[0];
  tile.last_begin = tile.begin[tile.count - 1];
  tile.first_end = tile.end[0];
  tile.last_end = tile.end[tile.count - 1];
  item.partition = partition_size(in.kv_lengths[s]);
  item.first = tile.first_begin / item.partition;
  item.last = (tile.last_end - 1) / item.partition;
}

void run_partition(const AttentionItem& item, int32_t index, const AttentionWork& work, float* state) {
  attention_partial(item.tile, index * item.partition, (index + 1) * item.partition, work, state);
}

void run_item(const AttentionPlan& plan, int32_t index, float* memory) {
  AttentionItem item;
  find_item(plan, index, item);
  const int32_t head_dim = plan.args.head_dim;
  float* later = memory + max_state_floats(head_dim);
  const AttentionWork work = attention_work(memory + round_up(2 * max_state_floats(head_dim), 16), head_dim);
  attention_pack(item.tile, work);
  run_partition(item, item.first, work, memory);
  for (int32_t p = item.first + 1; p <= item.last; ++p) {
    run_partition(item, p, work, later);
    attention_merge(item.tile, memory, later);
  }
  attention_finish(item.tile, memory);
}

// First all partitions of all items, then each item's join.
void run_split(CpuContext& context, const AttentionPlan& plan, float* workers, float* partials) {
  const int32_t head_dim = plan.args.head_dim, parts = plan.max_partitions;
  const auto partial = [&](int64_t item, int32_t p) {
    return partials + (static_cast<size_t>(item) * static_cast<size_t>(parts) + static_cast<size_t>(p)) * plan.max_state;
  };
  context.pool.parallel_for(static_cast<int64_t>(plan.items) * parts, 1, [&](int64_t begin, int64_t end, int worker) {
    float* memory = workers + static_cast<size_t>(worker) * worker_floats(head_dim);
    const AttentionWork work = attention_work(memory + round_up(2 * max_state_floats(head_dim), 16), head_dim);
    for (int64_t task = begin; task < end; ++task) {
      AttentionItem item;
      find_item(plan, static_cast<int32_t>(task / parts), item);
      const int32_t p = item.first + static_cast<int32_t>(task % parts);
      if (p > item.last) continue;
      attention_pack(item.tile, work);
      run_partition(item, p, work, partial(task / parts, p - item.first));
    }
  });
  context.pool.parallel_for(plan.items, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t index = begin; index < end; ++index) {
      AttentionItem item;
      find_item(plan, static_cast<int32_t>(index), item);
      for (int32_t p = 1; p <= item.last - item.first; ++p) attention_merge(item.tile, partial(index, 0), partial(index, p));
      attention_finish(item.tile, partial(index, 0));
    }
  });
}

}  // namespace

size_t cpu_attention_scratch(const StepCapacity& capacity, const ModelDims& dims, int threads) {
  const size_t split = std::min(static_cast<size_t>(threads) << 21, size_t{32} << 20);
  return offsets_bytes(capacity.sequences) + static_cast<size_t>(threads) * worker_floats(dims.head_dim) * sizeof(float) +
         (threads > 1 ? split : 0);
}

void cpu_attention(CpuContext& context, const AttentionArgs& args) {
  const auto& kv = static_cast<const CpuKvCache&>(*args.kv);
  const KvCacheSpec& spec = kv.spec();
  BOLIDE_CHECK(args.q.dtype == DType::f32 && args.out.dtype == DType::f32);
  BOLIDE_CHECK(args.kv_heads == spec.kv_heads && args.head_dim == spec.head_dim && args.layer >= 0 && args.layer < spec.layers);
  BOLIDE_CHECK(args.kv_heads > 0 && args.heads % args.kv_heads == 0 && args.head_dim % 2 == 0 && args.window >= 0);
  const int threads = context.pool.size();
  const size_t offsets = offsets_bytes(args.in->counts->sequences);
  const size_t workers_bytes = static_cast<size_t>(threads) * worker_floats(args.head_dim) * sizeof(float);
  BOLIDE_CHECK(offsets + workers_bytes <= context.attention.bytes);
  std::byte* scratch = context.attention.data.get();
  AttentionPlan plan{args, kv, args.heads / args.kv_heads, attention_lanes(), reinterpret_cast<int32_t*>(scratch)};
  plan_items(plan);
  float* workers = reinterpret_cast<float*>(scratch + offsets);
  if (threads == 1 || plan.work < kInlineWork) {
    for (int32_t i = 0; i < plan.items; ++i) run_item(plan, i, workers);
    return;
  }
  const size_t partials = context.attention.bytes - offsets - workers_bytes;
  const size_t needed = static_cast<size_t>(plan.items) * static_cast<size_t>(plan.max_partitions) * plan.max_state * sizeof(float);
  if (plan.items < kItemsPerThread * threads && plan.max_partitions > 1 && needed <= partials) {
    run_split(context, plan, workers, reinterpret_cast<float*>(scratch + offsets + workers_bytes));
    return;
  }
  context.pool.parallel_for(plan.items, 1, [&](int64_t begin, int64_t end, int worker) {
    float* memory = workers + static_cast<size_t>(worker) * worker_floats(args.head_dim);
    for (int64_t i = begin; i < end; ++i) run_item(plan, static_cast<int32_t>(i), memory);
  });
}

}  // namespace bolide
