#include "cli/throughput_report.h"

#include "cli/bench_record.h"
#include "core/build_info.h"
#include "core/human.h"

namespace bolide {
namespace {

double per(double amount, double seconds) { return seconds > 0 ? amount / seconds : 0; }

double ms_per_step(const ThroughputResult& result, double seconds) {
  return 1e3 * per(seconds, static_cast<double>(result.counters.steps));
}

// Work of the host that is not the device's: a backend that computes within submit() has its step there.
double host_seconds(const EngineCounters& c, bool asynchronous) {
  return c.prepare_seconds + c.deliver_seconds + (asynchronous ? c.submit_seconds : 0);
}
double device_wait_seconds(const EngineCounters& c, bool asynchronous) { return c.wait_seconds + (asynchronous ? 0 : c.submit_seconds); }

std::string latency_row(const char* name, const Latency& l) {
  return fmt::format("| {} | {:.2f} | {:.2f} | {:.2f} |\n", name, 1e3 * l.mean, 1e3 * l.median, 1e3 * l.p99);
}

std::string requests_text(const ThroughputContext& context) {
  const WorkloadShape& s = context.shape;
  std::string text = context.workload.empty() ? "" : context.workload + ": ";
  text += fmt::format("{} requests, seed {}, temperature {:g}, {}", with_commas(s.num_prompts), s.seed, s.temperature,
                      s.request_rate > 0 ? fmt::format("{:g} requests/s on average at random moments", s.request_rate) : "all at once");
  return text;
}

}  // namespace

Ceiling ceiling_of(const ThroughputContext& context, const ThroughputResult& result) {
  const EngineInfo& info = context.bench.info;
  Ceiling ceiling;
  ceiling.weight_bytes =
      decode_bytes(context.bench.config, static_cast<int64_t>(info.weights_bytes), info.weights_dtype, info.kv_dtype, 0, 0);
  if (context.fewest_steps == 0 || result.interrupted || !result.bandwidth.known()) return ceiling;
  const double bytes = static_cast<double>(context.fewest_steps) * ceiling.weight_bytes + result.kv_bytes;
  ceiling.seconds = bytes / result.bandwidth.mean();
  ceiling.tokens_per_second = per(static_cast<double>(result.output_tokens), ceiling.seconds);
  ceiling.percent = 100 * ceiling.seconds / result.seconds;
  return ceiling;
}

std::string throughput_text(const ThroughputContext& context, const ThroughputResult& result) {
  const EngineInfo& info = context.bench.info;
  const EngineCounters& c = result.counters;
  const ReadBandwidth& bandwidth = result.bandwidth;
  const Ceiling ceiling = ceiling_of(context, result);
  const auto total = static_cast<double>(result.prompt_tokens + result.output_tokens);
  std::string text = fmt::format(
      "Throughput: {:.2f} requests/s, {:.2f} total tokens/s, {:.2f} output tokens/s\n"
      "Total num prompt tokens:  {}\nTotal num output tokens:  {}\n\n| ms | mean | median | p99 |\n|---|---:|---:|---:|\n",
      per(static_cast<double>(result.requests), result.seconds), per(total, result.seconds),
      per(static_cast<double>(result.output_tokens), result.seconds), result.prompt_tokens, result.output_tokens);
  text += latency_row("TTFT", result.ttft) + latency_row("TPOT", result.tpot) + latency_row("ITL", result.itl) +
          latency_row("E2EL", result.e2el);
  text += fmt::format("\n{}: {:.2f} s; prefix cache off, prompts are random; {}\n", requests_text(context), result.seconds,
                      context.warmup ? "after a warm-up" : "without a warm-up");
  text += fmt::format("{}, {}: {} weights, KV cache {} of {}, workspace {}\n", info.device.name, context.bench.model,
                      human_bytes(info.weights_bytes), human_bytes(info.kv_bytes), dtype_name(info.kv_dtype),
                      human_bytes(info.workspace_bytes));
  text +=
      fmt::format("K and V read: {:.2f} GB, {:.2f} GB/s over the run\n", result.kv_bytes / 1e9, per(result.kv_bytes, result.seconds) / 1e9);
  if (bandwidth.known())
    text += fmt::format("read bandwidth {}: {:.1f} GB/s before, {:.1f} after{}\n", bandwidth.measured ? "measured" : "as given",
                        bandwidth.before / 1e9, bandwidth.after / 1e9,
                        bandwidth.wandered() ? ", which differ by more than 10 %: the share says little" : "");
  if (ceiling.seconds > 0)
    text += fmt::format(
        "ceiling: {} steps x {:.3f} GB of weights + K and V in {:.2f} s, {:.1f} output tokens/s: the run reaches {:.1f} %\n",
        with_commas(context.fewest_steps), ceiling.weight_bytes / 1e9, ceiling.seconds, ceiling.tokens_per_second, ceiling.percent);
  text += fmt::format(
      "{} steps, {} of them handed over ahead; per step {:.3f} ms of the host, {:.3f} ms waiting for the device; {} preempted\n",
      with_commas(c.steps), with_commas(c.steps_ahead), ms_per_step(result, host_seconds(c, info.asynchronous)),
      ms_per_step(result, device_wait_seconds(c, info.asynchronous)), with_commas(result.preempted));
  const DeviceState &before = result.before, &after = result.after;
  if (before.sm_clock_mhz > 0)
    text += fmt::format("SM clock {} MHz before, {} after (at most {}), memory {}, {}; {} C; {:.0f} W of {:.0f}; driver {}{}\n",
                        before.sm_clock_mhz, after.sm_clock_mhz, before.max_sm_clock_mhz, before.memory_clock_mhz, after.memory_clock_mhz,
                        after.temperature_c, after.power_watts, before.power_limit_watts, before.driver,
                        after.throttled_by.empty() ? "" : ", held back by " + after.throttled_by);
  return text;
}

Json throughput_record(const ThroughputContext& context, const ThroughputResult& result) {
  const BenchContext& bench = context.bench;
  const EngineInfo& info = bench.info;
  const EngineCounters& c = result.counters;
  const WorkloadShape& shape = context.shape;
  const ReadBandwidth& bandwidth = result.bandwidth;
  const Ceiling ceiling = ceiling_of(context, result);
  const BuildInfo build = build_info();
  const int64_t total = result.prompt_tokens + result.output_tokens;
  const auto if_known = [](double value, bool known) { return known ? Json(value) : Json(); };
  Json record{{"schema_version", 1},
              {"timed", "from the first request to the last token; no loading, no tokenizer"},
              {"elapsed_time", result.seconds},
              {"num_requests", result.requests},
              {"total_num_tokens", total},
              {"requests_per_second", per(static_cast<double>(result.requests), result.seconds)},
              {"tokens_per_second", per(static_cast<double>(total), result.seconds)},
              {"output_tokens_per_second", per(static_cast<double>(result.output_tokens), result.seconds)},
              {"total_input_tokens", result.prompt_tokens},
              {"total_output_tokens", result.output_tokens},
              {"interrupted", result.interrupted}};
  const auto latency = [&](const std::string& name, const Latency& l) {
    record["mean_" + name + "_ms"] = 1e3 * l.mean;
    record["median_" + name + "_ms"] = 1e3 * l.median;
    record["std_" + name + "_ms"] = 1e3 * l.deviation;
    record["p99_" + name + "_ms"] = 1e3 * l.p99;
  };
  latency("ttft", result.ttft);
  latency("tpot", result.tpot);
  latency("itl", result.itl);
  latency("e2el", result.e2el);
  record.update(Json{{"test_time", bench.started},
                     {"build_version", build.version},
                     {"build_commit", build.commit},
                     {"build_type", build.build_type},
                     {"command_line", bench.command_line},
                     {"model", bench.model},
                     {"model_type", bench.config.model_type},
                     {"model_size", info.weights_bytes},
                     {"model_n_params", bench.config.parameters()},
                     {"weights_dtype", dtype_name(info.weights_dtype)},
                     {"kv_cache_dtype", dtype_name(info.kv_dtype)},
                     {"kv_cache_bytes", info.kv_bytes},
                     {"workspace_bytes", info.workspace_bytes},
                     {"device", info.device.id},
                     {"device_name", info.device.name},
                     {"n_threads", bench.threads > 0 ? Json(bench.threads) : Json()},
                     {"max_num_batched_tokens", bench.settings.max_num_batched_tokens},
                     {"max_num_seqs", context.max_num_seqs},
                     {"workload", context.workload.empty() ? Json() : Json(context.workload)},
                     {"num_prompts", shape.num_prompts},
                     {"input_len", {shape.input.low, shape.input.high}},
                     {"output_len", {shape.output.low, shape.output.high}},
                     {"request_rate", if_known(shape.request_rate, shape.request_rate > 0)},
                     {"seed", shape.seed},
                     {"temperature", json_number(shape.temperature)},
                     {"ignore_eos", true},
                     {"prefix_cache", false},
                     {"warmup", context.warmup},
                     {"preempted_requests", result.preempted},
                     {"kv_bytes_read", result.kv_bytes},
                     {"kv_gb_per_s", per(result.kv_bytes, result.seconds) / 1e9},
                     {"weight_bytes_per_step", ceiling.weight_bytes},
                     {"fewest_steps", context.fewest_steps > 0 ? Json(context.fewest_steps) : Json()},
                     {"ceiling_seconds", if_known(ceiling.seconds, ceiling.seconds > 0)},
                     {"ceiling_output_tokens_per_second", if_known(ceiling.tokens_per_second, ceiling.seconds > 0)},
                     {"percent_of_ceiling", if_known(ceiling.percent, ceiling.seconds > 0)},
                     {"read_bandwidth_before_gb_per_s", if_known(bandwidth.before / 1e9, bandwidth.known())},
                     {"read_bandwidth_after_gb_per_s", if_known(bandwidth.after / 1e9, bandwidth.known())},
                     {"read_bandwidth_measured", bandwidth.known() ? Json(bandwidth.measured) : Json()},
                     {"steps", c.steps},
                     {"steps_ahead", c.steps_ahead},
                     {"step_tokens", c.tokens},
                     {"host_ms_per_step", ms_per_step(result, host_seconds(c, info.asynchronous))},
                     {"device_wait_ms_per_step", ms_per_step(result, device_wait_seconds(c, info.asynchronous))},
                     {"prepare_ms_per_step", ms_per_step(result, c.prepare_seconds)},
                     {"submit_ms_per_step", ms_per_step(result, c.submit_seconds)},
                     {"deliver_ms_per_step", ms_per_step(result, c.deliver_seconds)}});
  add_device_state(record, result.before, result.after);
  return record;
}

}  // namespace bolide
