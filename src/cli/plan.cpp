// bolide plan: which contexts, for how many sequences and in which KV cache dtype, fit on a device.
#include <fmt/ranges.h>

#include <algorithm>

#include "cli/command.h"
#include "cli/json.h"
#include "cli/model_facts.h"
#include "cli/streams.h"
#include "cli/values.h"
#include "core/human.h"
#include "engine/engine_load.h"
#include "engine/kv_plan.h"
#include "exec/memory_plan.h"

namespace bolide {
namespace {

constexpr std::string_view kHelp = R"(Usage: bolide plan MODEL [FLAGS]
Tells what fits on a device before anything is loaded: contexts x sequences x KV cache dtypes.
Only configuration and headers are read. The same plan decides when a model is loaded.

Model     MODEL, -m, --model DIR|NAME    folder, or Org/Name[@REV] in the Hugging Face cache
                                         (left out: the quickstart's); --revision REV  --offline
          --random-weights SHAPE  instead: a config.json filled with random weights
                                  --random-dtype T, --random-seed N
Plan      -c, --ctx-size N,...        contexts (default: the model's, and halves of it, six in all)
          --max-num-seqs N,...        sequences at once (default 1,4,16,64)
          --kv-cache-dtype T,...      auto, float32, float16, bfloat16, fp8 (float32,bfloat16)
          --kv-cache-memory SIZE      no more than this for the KV cache (2G; default: what is free)
          --max-num-batched-tokens N  rows of a step (512; on a GPU 2,048)
          --gpu-memory-utilization F  of a GPU's memory, what may be taken (default 0.9)
          --device auto|cpu|cuda|cuda:N    --list-devices    -t, --threads N
Output    --output-format text|json
Console   -q  -v  --log-level L  --log-file F  --color C, --no-color  --no-progress
          --show-config  --list-flags  --version  -h, --help

A cell is what weights, workspace, KV cache and reserve take together; '-' does not fit. 'largest'
is the longest context that so many sequences can have at the same time.
Example
  bolide plan --random-weights configs/models/qwen3-0.6b.json --max-num-seqs 1,8
)";

constexpr int kSchemaVersion = 1;
constexpr int kContexts = 6;

struct Options : DescribeOptions {
  std::string contexts, sequences = "1,4,16,64", dtypes = "float32,bfloat16", kv_cache_memory;
  int32_t max_num_batched_tokens = 0;
  double gpu_memory_utilization = EngineOptions{}.gpu_memory_utilization;

  void add_to(Flags& flags) {
    DescribeOptions::add_to(flags);
    flags.value("-c,--ctx-size,--max-model-len,--max-seq-len", contexts);
    flags.value("--max-num-seqs,--parallel", sequences);
    flags.alias("-np", "--max-num-seqs");
    flags.value("--kv-cache-dtype", dtypes);
    flags.alias("-ctk", "--kv-cache-dtype");
    flags.alias("-ctv", "--kv-cache-dtype");
    flags.value("--kv-cache-memory", kv_cache_memory);
    flags.value("--max-num-batched-tokens", max_num_batched_tokens).in_range(0, 1 << 16);
    flags.value("--gpu-memory-utilization", gpu_memory_utilization);
  }
};

struct Cell {
  int64_t ctx_size = 0;
  int32_t sequences = 1;
  int64_t workspace_bytes = 0, kv_bytes = 0, total_bytes = 0;  // total: with weights and reserve
  bool fits = false;
};

// One KV cache dtype on the device.
struct Table {
  DType kv_dtype;
  bool device_default = false;
  int64_t bytes_per_token = 0;
  std::vector<Cell> cells;       // sequences by contexts
  std::vector<int64_t> largest;  // context, for each number of sequences; 0: none fits
};

class Planner {
 public:
  Planner(const ModelFacts& facts, const Options& options)
      : facts_(facts), chosen_(choose_backend(options.device.request)), device_(chosen_.backend->info()) {
    engine_.max_num_batched_tokens = options.max_num_batched_tokens;
    engine_.gpu_memory_utilization = options.gpu_memory_utilization;
    engine_.kv_cache_bytes = options.kv_cache_memory.empty() ? 0 : parse_bytes("--kv-cache-memory", options.kv_cache_memory);
    engine_.max_logprob_rows = 0;
    validate_options(engine_);
    engine_ = with_step_tokens(engine_, *chosen_.backend);
  }

  DType default_kv_dtype() const { return chosen_.backend->default_kv_dtype(facts_.weights_dtype); }
  int64_t limit_bytes() const { return static_cast<int64_t>(memory_limit(device_, engine_.gpu_memory_utilization)); }
  const DeviceInfo& device() const { return device_; }
  const std::string& reason() const { return chosen_.reason; }

  // Whether loading with these flags gives every sequence its whole context at the same time.
  Cell cell(DType kv_dtype, int64_t ctx_size, int32_t sequences) const {
    EngineOptions options = engine_;
    options.kv_dtype = kv_dtype;
    options.ctx_size = ctx_size;
    options.max_num_seqs = sequences;
    options.max_num_batched_tokens = std::max(engine_.max_num_batched_tokens, sequences);  // a step holds a row of each
    const MemoryNeeds needs =
        memory_needs(facts_.config, static_cast<size_t>(facts_.weights_bytes), facts_.weights_dtype, options, *chosen_.backend, device_);
    const int32_t chunks = chunks_for(ctx_size, sequences, needs.request.chunk_tokens);
    Cell cell{ctx_size, sequences, static_cast<int64_t>(needs.request.workspace_bytes), 0, 0, false};
    cell.kv_bytes = int64_t{chunks} * needs.request.chunk_tokens * static_cast<int64_t>(needs.request.bytes_per_token);
    cell.total_bytes = facts_.weights_bytes + cell.workspace_bytes + cell.kv_bytes + static_cast<int64_t>(kMemoryReserve);
    try {
      const KvPlan plan = plan_kv(needs.request);
      cell.fits = plan.ctx_size == ctx_size && plan.chunks >= chunks;
    } catch (const MemoryError&) {
      cell.fits = false;
    }
    return cell;
  }

  int64_t largest_context(DType kv_dtype, int32_t sequences) const {
    int64_t fits = 0, above = facts_.config.context + 1;
    while (above - fits > 1) {
      const int64_t middle = fits + (above - fits) / 2;
      (cell(kv_dtype, middle, sequences).fits ? fits : above) = middle;
    }
    return fits;
  }

  Table table(DType kv_dtype, const std::vector<int32_t>& contexts, const std::vector<int32_t>& sequences) const {
    Table table{kv_dtype, kv_dtype == default_kv_dtype(), facts_.config.kv_bytes_per_token(kv_dtype), {}, {}};
    for (const int32_t count : sequences) {
      for (const int32_t context : contexts) table.cells.push_back(cell(kv_dtype, context, count));
      table.largest.push_back(largest_context(kv_dtype, count));
    }
    return table;
  }

 private:
  const ModelFacts& facts_;
  ChosenBackend chosen_;
  DeviceInfo device_;
  EngineOptions engine_;
};

std::vector<int32_t> contexts_of(const Options& options, const ModelConfig& config) {
  std::vector<int32_t> contexts;
  if (!options.contexts.empty()) {
    for (const int32_t context : parse_counts("--ctx-size", options.contexts, 0))
      contexts.push_back(context == 0 ? static_cast<int32_t>(config.context) : context);
    for (const int32_t context : contexts) {
      if (context > config.context)
        throw UsageError(
            fmt::format("--ctx-size {} is more than the model's context of {}", with_commas(context), with_commas(config.context)));
    }
    return contexts;
  }
  for (int64_t context = config.context; context > 0 && contexts.size() < kContexts; context /= 2)
    contexts.insert(contexts.begin(), static_cast<int32_t>(context));
  return contexts;
}

std::vector<int32_t> sequences_of(const Options& options) {
  std::vector<int32_t> counts = parse_counts("--max-num-seqs", options.sequences, 1);
  for (const int32_t count : counts) {
    if (count > 4096) throw UsageError(fmt::format("--max-num-seqs {} is above 4096", count));
  }
  return counts;
}

std::vector<DType> dtypes_of(const Options& options, DType device_default) {
  std::vector<DType> dtypes;
  for (size_t begin = 0; begin <= options.dtypes.size();) {
    const size_t end = std::min(options.dtypes.find(',', begin), options.dtypes.size());
    const DType dtype = parse_dtype_flag("--kv-cache-dtype", options.dtypes.substr(begin, end - begin)).value_or(device_default);
    if (std::find(dtypes.begin(), dtypes.end(), dtype) == dtypes.end()) dtypes.push_back(dtype);
    begin = end + 1;
  }
  return dtypes;
}

Json plan_json(const Options& options, const ModelFacts& facts, const Planner& planner, const std::vector<Table>& tables,
               const std::vector<int32_t>& sequences) {
  Json json_tables = Json::array();
  for (const Table& table : tables) {
    Json cells = Json::array(), largest = Json::array();
    for (const Cell& c : table.cells) {
      cells.push_back({{"ctx_size", c.ctx_size},
                       {"sequences", c.sequences},
                       {"workspace_bytes", c.workspace_bytes},
                       {"kv_bytes", c.kv_bytes},
                       {"total_bytes", c.total_bytes},
                       {"fits", c.fits}});
    }
    for (size_t i = 0; i < sequences.size(); ++i) largest.push_back({{"sequences", sequences[i]}, {"ctx_size", table.largest[i]}});
    json_tables.push_back({{"kv_cache_dtype", dtype_name(table.kv_dtype)},
                           {"device_default", table.device_default},
                           {"kv_bytes_per_token", table.bytes_per_token},
                           {"cells", std::move(cells)},
                           {"largest_ctx_size", std::move(largest)}});
  }
  return {{"schema_version", kSchemaVersion},
          {"model", options.model.name()},
          {"architecture", facts.config.architecture},
          {"context", facts.config.context},
          {"device", {{"id", planner.device().id}, {"name", planner.device().name}, {"reason", planner.reason()}}},
          {"weights_bytes", facts.weights_bytes},
          {"reserve_bytes", kMemoryReserve},
          {"free_bytes", planner.device().memory_free},
          {"limit_bytes", planner.limit_bytes()},
          {"tables", std::move(json_tables)}};
}

std::string plan_text(const Options& options, const ModelFacts& facts, const Planner& planner, const std::vector<Table>& tables,
                      const std::vector<int32_t>& contexts) {
  const auto bytes = [](int64_t count) { return human_bytes(static_cast<size_t>(count)); };
  std::string text = fmt::format("{} on {}\nweights {}; {} may be taken\n", options.model.name(), planner.reason(),
                                 bytes(facts.weights_bytes), bytes(planner.limit_bytes()));
  for (const Table& table : tables) {
    text += fmt::format("\nKV cache in {}{}, {} a token\n{:>9}", dtype_name(table.kv_dtype),
                        table.device_default ? " (this device's default)" : "", bytes(table.bytes_per_token), "sequences");
    for (const int32_t context : contexts) text += fmt::format("{:>12}", with_commas(context));
    text += fmt::format("{:>12}\n", "largest");
    for (size_t row = 0; row < table.largest.size(); ++row) {
      text += fmt::format("{:>9}", table.cells[row * contexts.size()].sequences);
      for (size_t column = 0; column < contexts.size(); ++column) {
        const Cell& cell = table.cells[row * contexts.size() + column];
        text += fmt::format("{:>12}", cell.fits ? bytes(cell.total_bytes) : "-");
      }
      text += fmt::format("{:>12}\n", table.largest[row] > 0 ? with_commas(table.largest[row]) : "-");
    }
  }
  return text;
}

}  // namespace

ExitCode run_plan(const Arguments& arguments) {
  Options options;
  Flags flags("plan", kHelp);
  options.add_to(flags);
  if (!options.start(flags, arguments)) return ExitCode::ok;
  const std::vector<int32_t> sequences = sequences_of(options);
  const ModelFacts facts = model_facts(options.model);
  const std::vector<int32_t> contexts = contexts_of(options, facts.config);
  const Planner planner(facts, options);
  std::vector<Table> tables;
  for (const DType dtype : dtypes_of(options, planner.default_kv_dtype())) tables.push_back(planner.table(dtype, contexts, sequences));
  ResultStream out;
  out.write(options.json() ? json_text(plan_json(options, facts, planner, tables, sequences)) + "\n"
                           : plan_text(options, facts, planner, tables, contexts));
  out.finish();
  return ExitCode::ok;
}

}  // namespace bolide
