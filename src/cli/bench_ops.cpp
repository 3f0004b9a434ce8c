// bolide bench ops: a fused op against the plain way to compute the same.
#include "cli/bench_record.h"
#include "cli/bench_run.h"
#include "cli/command.h"
#include "cli/common_options.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/streams.h"
#include "cli/values.h"
#include "core/build_info.h"
#include "core/human.h"

namespace bolide {
namespace {

constexpr std::string_view kHelp = R"(Usage: bolide bench ops [FLAGS]
Times norm_qkv (RMSNorm, QKV product, rotation, K and V stored) against a norm kernel followed by
cuBLASLt, on a CUDA device.

Shapes    --hidden N,...              out of 896, 1024, 2048, 4096 (default: all), with the heads of
                                      a model of that width
          --rows N,...                token rows (default 1,8,64,512)
          --dtype T,...               float32, bfloat16 (default: both)
Device    --device auto|cuda|cuda:N    --list-devices
Output    -o, --output-format md|json|jsonl
Console   -q  -v  --log-level L  --log-file F  --color auto|always|never, --no-color  --no-progress
          --show-config  --list-flags  --version  -h, --help

What the figures are
  plain      µs of a norm kernel and the library's product: nothing rotated, nothing stored
  product    µs of the op's own norm and product alone; empty where many rows take the library's
             product too
  op         µs of the whole op: norm, product, rotation of q and k, K and V stored
  x          plain / product, plain / op
  error      largest absolute difference from double precision; outputs have a root mean square
             of about 1
Calls run back to back in a captured graph, over copies of the weights that together exceed the
L2 cache four times.

Example
  bolide bench ops --device cuda --rows 1,8
)";

struct Options {
  DeviceOptions device;  // without --threads
  ConsoleOptions console;
  std::string hidden = "896,1024,2048,4096", rows = "1,8,64,512", dtypes = "float32,bfloat16", format = "md";

  void add_to(Flags& flags) {
    flags.value("--hidden", hidden);
    flags.value("--rows", rows);
    flags.value("--dtype", dtypes);
    flags.value("--device", device.request.device);
    flags.alias("-dev", "--device");
    flags.not_from_environment(flags.flag("--list-devices", device.list));
    flags.value("-o,--output-format", format).one_of({"md", "json", "jsonl"});
    console.add_to(flags);
  }
};

// Heads of a published model of each width: Qwen2.5-0.5B, Qwen3-0.6B, Llama-3.2-1B, Llama-3.1-8B.
NormQkvShape shape_of_width(int32_t hidden) {
  switch (hidden) {
    case 896:
      return {.hidden = 896, .heads = 14, .kv_heads = 2, .head_dim = 64};
    case 1024:
      return {.hidden = 1024, .heads = 16, .kv_heads = 8, .head_dim = 128};
    case 2048:
      return {.hidden = 2048, .heads = 32, .kv_heads = 8, .head_dim = 64};
    case 4096:
      return {.hidden = 4096, .heads = 32, .kv_heads = 8, .head_dim = 128};
    default:
      throw UsageError(fmt::format("--hidden {} is none of 896, 1024, 2048, 4096", hidden));
  }
}

std::vector<DType> parse_dtypes(const std::string& text) {
  std::vector<DType> dtypes;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    const auto dtype = parse_dtype_flag("--dtype", text.substr(at, comma - at));
    if (!dtype || *dtype == DType::f16) throw UsageError(fmt::format("--dtype {}: float32 and bfloat16 are compared", text));
    dtypes.push_back(*dtype);
    at = comma + 1;
  }
  return dtypes;
}

std::vector<NormQkvShape> shapes_of(const Options& options) {
  std::vector<NormQkvShape> shapes;
  const std::vector<int32_t> all_rows = parse_counts("--rows", options.rows, 1);
  for (const DType dtype : parse_dtypes(options.dtypes)) {
    for (const int32_t hidden : parse_counts("--hidden", options.hidden, 1)) {
      for (const int32_t rows : all_rows) {
        NormQkvShape shape = shape_of_width(hidden);
        shape.rows = rows;
        shape.dtype = dtype;
        shapes.push_back(shape);
      }
    }
  }
  return shapes;
}

std::string table_row(const NormQkvShape& shape, const NormQkvComparison& c) {
  const auto ratio = [&](double seconds) { return seconds > 0 ? fmt::format("{:.2f}", c.plain_seconds / seconds) : ""; };
  const std::string product = c.product_seconds > 0 ? fmt::format("{:.2f}", 1e6 * c.product_seconds) : "";
  return fmt::format("| {} | {} x {} | {} | {:.2f} | {} | {} | {:.2f} | {} | {:.0f} | {:.1e} | {:.1e} | {} |\n", dtype_name(shape.dtype),
                     shape.hidden, shape.outputs(), shape.rows, 1e6 * c.plain_seconds, product, ratio(c.product_seconds),
                     1e6 * c.op_seconds, ratio(c.op_seconds), static_cast<double>(c.weight_bytes) / c.op_seconds / 1e9, c.plain_error,
                     c.op_error, c.copies);
}

constexpr std::string_view kTableHead =
    "| dtype | hidden x outputs | rows | plain µs | product µs | x | op µs | x | op GB/s | plain error | op error | copies |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";

Json record(const Arguments& arguments, const DeviceInfo& device, const NormQkvShape& shape, const NormQkvComparison& c,
            const DeviceState& before, const DeviceState& after) {
  const auto ratio = [&](double seconds) { return seconds > 0 ? Json(c.plain_seconds / seconds) : Json(); };
  Json json{{"schema_version", 1},
            {"op", "norm_qkv"},
            {"command_line", command_text("bench ops", arguments)},
            {"build_commit", build_info().commit},
            {"device", device.id},
            {"device_name", device.name},
            {"dtype", dtype_name(shape.dtype)},
            {"hidden", shape.hidden},
            {"outputs", shape.outputs()},
            {"rows", shape.rows},
            {"plain_us", 1e6 * c.plain_seconds},
            {"product_us", c.product_seconds > 0 ? Json(1e6 * c.product_seconds) : Json()},
            {"op_us", 1e6 * c.op_seconds},
            {"plain_over_product", ratio(c.product_seconds)},
            {"plain_over_op", ratio(c.op_seconds)},
            {"plain_error", c.plain_error},
            {"op_error", c.op_error},
            {"error_rows", c.error_rows},
            {"weight_bytes", c.weight_bytes},
            {"weight_copies", c.copies},
            {"last_cache_bytes", c.cache_bytes}};
  add_device_state(json, before, after);
  return json;
}

}  // namespace

ExitCode run_bench_ops(const Arguments& arguments) {
  Options options;
  Flags flags("bench ops", kHelp);
  options.add_to(flags);
  if (!flags.parse(arguments)) return ExitCode::ok;
  options.console.start();
  if (options.device.listed()) return ExitCode::ok;
  const std::vector<NormQkvShape> shapes = shapes_of(options);
  const ChosenBackend chosen = choose_backend(options.device.request);
  Backend& backend = *chosen.backend;
  const DeviceInfo device = backend.info();

  ResultStream out;
  const GracefulStop stop;
  const Progress progress(!options.console.no_progress && !options.console.quiet);
  NormQkvComparison last;
  int rows = 0;
  for (const NormQkvShape& shape : shapes) {
    if (stop.requested() || out.failed()) break;
    progress.show(fmt::format("norm_qkv {} hidden {} rows {}", dtype_name(shape.dtype), shape.hidden, shape.rows));
    const DeviceState before = backend.state();
    last = backend.compare_norm_qkv(shape);
    const DeviceState after = backend.state();
    progress.show("");
    const bool first = rows++ == 0;
    if (options.format == "md") {
      out.write(std::string(first ? kTableHead : "") + table_row(shape, last));
    } else {
      const std::string json = json_text(record(arguments, device, shape, last, before, after));
      out.write(options.format == "jsonl" ? json + "\n" : (first ? "[\n" : ",\n") + json);
    }
    out.flush();
  }
  if (options.format == "json") out.write(rows == 0 ? "[]\n" : "\n]\n");
  if (options.format == "md" && rows > 0) {
    out.write(
        fmt::format("\n{}: each call reads another copy of the weights; the copies together exceed the last cache ({}) four times. "
                    "Errors over {} rows\n",
                    device.name, human_bytes(static_cast<size_t>(last.cache_bytes)), last.error_rows));
  }
  out.finish();
  return stop.requested().value_or(ExitCode::ok);
}

}  // namespace bolide
