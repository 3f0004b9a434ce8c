#include "cli/bench_record.h"

#include "core/build_info.h"

namespace bolide {
namespace {

constexpr const char* kTimedDecode = "decode steps with greedy sampling, from the first output token to the last; no tokenizer, no loading";
constexpr const char* kTimedPrefill = "prefill of the prompt up to its first output token; no tokenizer, no loading";
constexpr const char* kTimedBoth = "prefill of the prompt and decode steps with greedy sampling; no tokenizer, no loading";

// Bytes per decoded token, averaged over the steps of a run: step i finds what the cache held at its start + i tokens of each sequence.
double bytes_per_token(const BenchContext& context, const BenchCase& test, double start) {
  double sum = 0;
  for (int32_t i = 1; i <= test.generate; ++i) {
    sum += decode_bytes(context.config, static_cast<int64_t>(context.info.weights_bytes), context.info.weights_dtype, context.info.kv_dtype,
                        start + i, test.batch);
  }
  return sum / static_cast<double>(test.tokens());
}

double mean_bytes_per_token(const BenchContext& context, const BenchResult& result) {
  std::vector<double> starts;
  for (const BenchSample& sample : result.samples) starts.push_back(sample.mean_start);
  return bytes_per_token(context, result.test, spread_of(std::move(starts)).mean);
}

ReadShares shares_of(const BenchContext& context, const BenchResult& result) {
  std::vector<double> rates;
  std::vector<ReadBandwidth> around;
  for (const BenchSample& sample : result.samples) {
    const double bytes = bytes_per_token(context, result.test, sample.mean_start) * static_cast<double>(result.test.tokens());
    rates.push_back(bytes / sample.seconds);
    around.push_back(sample.bandwidth);
  }
  return read_shares(rates, around);
}

// Of all measurements, each once: a repetition's second one is mostly the next one's first.
Spread measurements_of(const BenchResult& result) {
  std::vector<double> values{result.bandwidth.before};
  const auto add = [&](const ReadBandwidth& bandwidth) {
    if (bandwidth.before != values.back()) values.push_back(bandwidth.before);
    values.push_back(bandwidth.after);
  };
  if (result.test.is_decode()) {
    values = {result.samples.front().bandwidth.before};
    for (const BenchSample& sample : result.samples) add(sample.bandwidth);
  } else {
    add(result.bandwidth);
  }
  return spread_of(std::move(values));
}

// Median of a field of all samples.
template <typename Field>
double median_of(const BenchResult& result, Field field) {
  std::vector<double> values;
  for (const BenchSample& sample : result.samples) values.push_back(sample.*field);
  return spread_of(std::move(values)).median;
}

}  // namespace

BenchFigures figures_of(const BenchContext& context, const BenchResult& result) {
  BenchFigures figures{spread_of(result.rates())};
  figures.first_token_ms = 1e3 * median_of(result, &BenchSample::first_token_seconds);
  if (result.test.is_decode()) {
    figures.bytes = mean_bytes_per_token(context, result);
    figures.bandwidth = figures.bytes * figures.rates.median;
    if (result.bandwidth.known()) figures.percent = 100 * figures.bandwidth / result.bandwidth.mean();
    if (result.bandwidth.known()) figures.shares = shares_of(context, result);
  }
  if (result.bandwidth.known()) figures.read_bandwidth = measurements_of(result);
  return figures;
}

void add_device_state(Json& record, const DeviceState& before, const DeviceState& after) {
  const auto known = [](auto value) { return value > 0 ? Json(value) : Json(); };
  const auto both = [&](const std::string& name, auto DeviceState::*field) {
    record[name + "_before"] = known(before.*field);
    record[name + "_after"] = known(after.*field);
  };
  record["driver"] = before.driver.empty() ? Json() : Json(before.driver);
  both("sm_clock_mhz", &DeviceState::sm_clock_mhz);
  both("memory_clock_mhz", &DeviceState::memory_clock_mhz);
  record["max_sm_clock_mhz"] = known(before.max_sm_clock_mhz);
  record["max_memory_clock_mhz"] = known(before.max_memory_clock_mhz);
  both("temperature_c", &DeviceState::temperature_c);
  both("power_watts", &DeviceState::power_watts);
  record["power_limit_watts"] = known(before.power_limit_watts);
  record["throttled_by"] = after.throttled_by.empty() ? Json() : Json(after.throttled_by);
}

namespace {

// The read bandwidth beside each repetition. Lists of prefill tests are empty, so that every record has the same keys.
void add_shares(Json& record, const BenchFigures& f, const BenchResult& result) {
  const bool known = result.bandwidth.known(), shares = !f.shares.percents.empty();
  const auto bandwidth = [&](double value) { return known ? Json(value / 1e9) : Json(); };
  record["median_read_bandwidth_gb_per_s"] = bandwidth(f.read_bandwidth.median);
  record["min_read_bandwidth_gb_per_s"] = bandwidth(f.read_bandwidth.least);
  record["max_read_bandwidth_gb_per_s"] = bandwidth(f.read_bandwidth.most);
  record["median_percent_of_read_bandwidth"] = shares ? Json(f.shares.median) : Json();
  record["steady_repetitions"] = shares ? Json(f.shares.steady) : Json();
  Json before = Json::array(), after = Json::array();
  for (size_t i = 0; i < f.shares.percents.size(); ++i) {
    before.push_back(result.samples[i].bandwidth.before / 1e9);
    after.push_back(result.samples[i].bandwidth.after / 1e9);
  }
  record["samples_read_bandwidth_before_gb_per_s"] = std::move(before);
  record["samples_read_bandwidth_after_gb_per_s"] = std::move(after);
  record["samples_percent_of_read_bandwidth"] = f.shares.percents;
}

}  // namespace

Json bench_record(const BenchContext& context, const BenchResult& result) {
  const BenchFigures f = figures_of(context, result);
  const BenchCase& test = result.test;
  const ReadBandwidth& bandwidth = result.bandwidth;
  const LoadTimes& load = context.info.load;
  const BuildInfo build = build_info();
  const bool decode = test.is_decode();
  const auto only_decode = [&](double value) { return decode && value > 0 ? Json(value) : Json(); };
  const auto only_known = [&](auto value) { return bandwidth.known() ? Json(value) : Json(); };
  Json samples_ns = Json::array(), samples_ts = Json::array();
  std::vector<double> seconds, first, last;
  for (const BenchSample& sample : result.samples) {
    seconds.push_back(sample.seconds * 1e9);
    first.push_back(sample.first_quarter_rate);
    last.push_back(sample.last_quarter_rate);
    samples_ns.push_back(static_cast<int64_t>(sample.seconds * 1e9));
    samples_ts.push_back(static_cast<double>(test.tokens()) / sample.seconds);
  }
  const Spread times = spread_of(seconds);
  Json record{{"schema_version", 1},
              {"test", test.label()},
              {"timed", decode              ? kTimedDecode
                        : test.generate > 0 ? kTimedBoth
                                            : kTimedPrefill},
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
              {"read_bandwidth_gb_per_s", only_known(bandwidth.mean() / 1e9)},
              {"read_bandwidth_before_gb_per_s", only_known(bandwidth.before / 1e9)},
              {"read_bandwidth_after_gb_per_s", only_known(bandwidth.after / 1e9)},
              {"read_bandwidth_wandered", only_known(bandwidth.wandered())},
              {"read_bandwidth_measured", only_known(bandwidth.measured)},
              {"percent_of_read_bandwidth", only_decode(f.percent)},
              {"samples_ns", std::move(samples_ns)},
              {"samples_ts", std::move(samples_ts)},
              {"command_line", context.command_line},
              {"batch_size", test.batch},
              {"bytes_per_step", only_decode(f.bytes * test.batch)},
              {"ttft_ms", f.first_token_ms},
              {"ttft_prompt_tokens", test.prompt_tokens()},
              {"load_device_ms", 1e3 * load.device},
              {"load_open_ms", 1e3 * load.open},
              {"load_memory_ms", 1e3 * load.memory},
              {"load_weights_ms", 1e3 * load.weights},
              {"load_tokenizer_ms", 1e3 * load.tokenizer},
              {"load_total_ms", 1e3 * context.info.load_seconds}};
  add_device_state(record, result.before, result.after);
  add_shares(record, f, result);
  return record;
}

}  // namespace bolide
