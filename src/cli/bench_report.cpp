#include "cli/bench_report.h"

#include <ctime>

#include "cli/json.h"
#include "core/build_info.h"
#include "core/human.h"

namespace bolide {
namespace {

constexpr const char* kTimedDecode = "decode steps with greedy sampling, from the first output token to the last; no tokenizer, no loading";
constexpr const char* kTimedPrefill = "prefill of the prompt up to its first output token; no tokenizer, no loading";

// Bytes per decoded token, averaged over the steps of the run: step i finds depth + i tokens in the cache (a prompt has at least one).
double bytes_per_token(const BenchContext& context, const BenchCase& test) {
  double sum = 0;
  for (int32_t i = 1; i <= test.generate; ++i) {
    sum += decode_bytes(context.config, static_cast<int64_t>(context.info.weights_bytes), context.info.weights_dtype, context.info.kv_dtype,
                        std::max(test.depth, 1) + i);
  }
  return sum / test.generate;
}

struct Figures {
  Spread rates;
  double bytes = 0, bandwidth = 0, percent = 0;  // decode only: per token, bytes/s at the median rate, of the read bandwidth
};
Figures figures_of(const BenchContext& context, const BenchResult& result) {
  Figures figures{spread_of(result.rates())};
  if (result.test.is_decode()) {
    figures.bytes = bytes_per_token(context, result.test);
    figures.bandwidth = figures.bytes * figures.rates.median;
    if (context.read_bandwidth > 0) figures.percent = 100 * figures.bandwidth / context.read_bandwidth;
  }
  return figures;
}

Json record(const BenchContext& context, const BenchResult& result) {
  const Figures f = figures_of(context, result);
  const BenchCase& test = result.test;
  const BuildInfo build = build_info();
  const bool decode = test.is_decode();
  const auto only_decode = [&](double value) { return decode && value > 0 ? Json(value) : Json(); };
  Json samples_ns = Json::array(), samples_ts = Json::array();
  std::vector<double> seconds, first, last;
  for (const BenchSample& sample : result.samples) {
    seconds.push_back(sample.seconds * 1e9);
    first.push_back(sample.first_quarter_rate);
    last.push_back(sample.last_quarter_rate);
    samples_ns.push_back(static_cast<int64_t>(sample.seconds * 1e9));
    samples_ts.push_back(test.tokens() / sample.seconds);
  }
  const Spread times = spread_of(seconds);
  return {{"schema_version", 1},
          {"test", test.label()},
          {"timed", decode ? kTimedDecode : kTimedPrefill},
          {"test_time", context.started},
          {"build_version", build.version},
          {"build_commit", build.commit},
          {"build_type", build.build_type},
          {"model", context.model},
          {"model_type", context.config.model_type},
          {"model_size", context.info.weights_bytes},
          {"model_n_params", context.config.parameters()},
          {"weights_dtype", dtype_name(context.info.weights_dtype)},
          {"kv_cache_dtype", dtype_name(context.info.kv_dtype)},
          {"device", context.info.device.id},
          {"device_name", context.info.device.name},
          {"n_threads", context.threads > 0 ? Json(context.threads) : Json()},
          {"n_batch", context.settings.max_num_batched_tokens},
          {"seed", context.settings.seed},
          {"ignore_eos", true},
          {"warmup", context.settings.warmup},
          {"repetitions", result.samples.size()},
          {"n_prompt", test.prompt},
          {"n_gen", test.generate},
          {"n_depth", test.depth},
          {"avg_ns", static_cast<int64_t>(times.mean)},
          {"stddev_ns", static_cast<int64_t>(times.deviation)},
          {"avg_ts", f.rates.mean},
          {"stddev_ts", f.rates.deviation},
          {"median_ts", f.rates.median},
          {"min_ts", f.rates.least},
          {"max_ts", f.rates.most},
          {"first_quarter_ts", only_decode(spread_of(first).median)},
          {"last_quarter_ts", only_decode(spread_of(last).median)},
          {"bytes_per_token", only_decode(f.bytes)},
          {"gb_per_s", only_decode(f.bandwidth / 1e9)},
          {"read_bandwidth_gb_per_s", context.read_bandwidth > 0 ? Json(context.read_bandwidth / 1e9) : Json()},
          {"read_bandwidth_measured", context.read_bandwidth > 0 ? Json(context.bandwidth_measured) : Json()},
          {"percent_of_read_bandwidth", only_decode(f.percent)},
          {"samples_ns", std::move(samples_ns)},
          {"samples_ts", std::move(samples_ts)}};
}

std::string markdown_row(const BenchContext& context, const BenchResult& result) {
  const Figures f = figures_of(context, result);
  const bool decode = result.test.is_decode();
  const std::string device =
      context.threads > 0 ? fmt::format("{}, {} threads", context.info.device.id, context.threads) : context.info.device.id;
  const double parameters = static_cast<double>(context.config.parameters());
  const std::string size = parameters >= 1e9 ? fmt::format("{:.2f} B", parameters / 1e9) : fmt::format("{:.2f} M", parameters / 1e6);
  return fmt::format("| {} | {} | {} | {} | {} | {} | {:.2f} ± {:.2f} | {:.2f} | {:.2f} | {:.2f} | {} | {} |\n", context.config.model_type,
                     human_bytes(context.info.weights_bytes), size, device, dtype_name(context.info.kv_dtype), result.test.label(),
                     f.rates.mean, f.rates.deviation, f.rates.median, f.rates.least, f.rates.most,
                     decode ? fmt::format("{:.1f}", f.bandwidth / 1e9) : "", decode ? fmt::format("{:.0f} %", f.percent) : "");
}

std::string csv_line(const Json& json, bool header) {
  std::string line;
  for (const auto& [key, value] : json.items()) {
    if (value.is_array()) continue;
    std::string field = header ? key : value.is_string() ? value.get<std::string>() : value.is_null() ? "" : json_text(value);
    if (field.find_first_of(",\"\n") != std::string::npos) {
      for (size_t i = 0; (i = field.find('"', i)) != std::string::npos; i += 2) field.insert(i, "\"");
      field = "\"" + field + "\"";
    }
    line += (line.empty() ? "" : ",") + field;
  }
  return line + "\n";
}

}  // namespace

std::string BenchReport::row(const BenchContext& context, const BenchResult& result) {
  const bool first = rows_++ == 0;
  if (format_ == "md") {
    std::string text;
    if (first) {
      text =
          "| model | size | params | device | kv | test | t/s | median | min | max | GB/s | of read bw |\n"
          "|---|---:|---:|---|---|---:|---:|---:|---:|---:|---:|---:|\n";
    }
    const std::string note = fmt::format("{}: read bandwidth {:.1f} GB/s, {}\n", context.info.device.name, context.read_bandwidth / 1e9,
                                         context.bandwidth_measured ? "measured in this run" : "as given");
    if (context.read_bandwidth > 0 && notes_.find(note) == std::string::npos) notes_ += note;
    return text + markdown_row(context, result);
  }
  const Json json = record(context, result);
  if (format_ == "csv") return (first ? csv_line(json, true) : "") + csv_line(json, false);
  if (format_ == "jsonl") return json_text(json) + "\n";
  return (first ? "[\n" : ",\n") + json_text(json);
}

std::string BenchReport::end() {
  if (format_ == "json") return rows_ == 0 ? "[]\n" : "\n]\n";
  return format_ == "md" && rows_ > 0 ? "\n" + notes_ : "";
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace bolide
