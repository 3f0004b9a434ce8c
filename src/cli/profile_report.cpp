#include "cli/profile_report.h"

#include "cli/bench_record.h"
#include "core/build_info.h"

namespace bolide {
namespace {

// A time and what was done in it, as rates; a time that the clock could not resolve has none.
struct Rates {
  double bytes = 0, operations = 0;  // per second
  double percent = 0;                // of the read bandwidth; 0: not known
};
Rates rates_of(const OpTraffic& traffic, double seconds, const ReadBandwidth& bandwidth) {
  Rates rates;
  if (seconds <= 0) return rates;
  rates.bytes = traffic.bytes() / seconds;
  rates.operations = traffic.operations / seconds;
  if (bandwidth.known()) rates.percent = 100 * rates.bytes / bandwidth.mean();
  return rates;
}

std::string rate_columns(const OpTraffic& traffic, double seconds, const ReadBandwidth& bandwidth) {
  const Rates rates = rates_of(traffic, seconds, bandwidth);
  return fmt::format("{:.3f} | {:.1f} | {} | {:.1f}", traffic.bytes() / 1e6, rates.bytes / 1e9,
                     bandwidth.known() ? fmt::format("{:.0f} %", rates.percent) : "", rates.operations / 1e9);
}

std::string kernels_text(int32_t kernels) { return kernels > 0 ? fmt::format("{}", kernels) : ""; }

Json rates_json(const OpTraffic& traffic, double seconds, const ReadBandwidth& bandwidth) {
  const Rates rates = rates_of(traffic, seconds, bandwidth);
  const auto known = [](double value) { return value > 0 ? Json(value) : Json(); };
  return {{"weight_bytes", traffic.weight_bytes},
          {"kv_bytes", traffic.kv_bytes},
          {"activation_bytes", traffic.activation_bytes},
          {"bytes", traffic.bytes()},
          {"operations", traffic.operations},
          {"gb_per_s", known(rates.bytes / 1e9)},
          {"gflop_per_s", known(rates.operations / 1e9)},
          {"percent_of_read_bandwidth", known(rates.percent)}};
}

Json op_json(const OpProfile& op, const ProfiledStep& step) {
  Json json{{"op", op.name},
            {"calls", op.calls},
            {"kernels", op.kernels > 0 ? Json(op.kernels) : Json()},
            {"median_us", 1e6 * op.median},
            {"us_per_step", 1e6 * op.seconds},
            {"share", op.seconds / step.profile.ops_seconds}};
  json.update(rates_json(op.traffic, op.seconds, step.bandwidth));
  return json;
}

// How the step as it runs is made up.
std::string form_text(const StepProfile& p) {
  std::string text;
  if (!p.form.text.empty()) text += fmt::format("The step runs as {}.\n\n", p.form.text);
  if (p.form.phases.empty()) return text;
  text +=
      "| phase of the kernel | waiting for other blocks, µs | loading weights | computing | all | share |\n"
      "|---|---:|---:|---:|---:|---:|\n";
  const auto row = [&](const std::string& name, double waiting, double loading, double computing) {
    const double all = waiting + loading + computing;
    text += fmt::format("| {} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.1f} % |\n", name, 1e6 * waiting, 1e6 * loading, 1e6 * computing,
                        1e6 * all, 100 * all / p.step_seconds);
  };
  PhaseTime sum;
  for (const PhaseTime& phase : p.form.phases) {
    row(phase.name, phase.waiting, phase.loading, phase.computing);
    sum.waiting += phase.waiting, sum.loading += phase.loading, sum.computing += phase.computing;
  }
  row("all phases", sum.waiting, sum.loading, sum.computing);
  return text + "\n";
}

}  // namespace

std::string ProfiledStep::label() const {
  if (prefill) return fmt::format("prefill of {} token{}", rows, rows == 1 ? "" : "s");
  return fmt::format("decode of {} sequence{} at depth {}", batch, batch == 1 ? "" : "s", depth);
}

std::string profile_table(const ProfileContext& context, const ProfiledStep& step) {
  const StepProfile& p = step.profile;
  std::string text = fmt::format("{}{}, {}, {}: median of {}\n\n", step.label(),
                                 context.temperature > 0 ? fmt::format(", drawn at temperature {}", context.temperature) : "",
                                 context.model, context.info.device.name, context.repetitions);
  text +=
      "| op | calls | kernels | median µs | µs a step | share | MB a step | GB/s | of read bw | GFLOP/s |\n"
      "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";
  int32_t calls = 0;
  for (const OpProfile& op : p.ops) {
    calls += op.calls;
    text +=
        fmt::format("| {} | {} | {} | {:.1f} | {:.1f} | {:.1f} % | {} |\n", op.name, op.calls, kernels_text(op.kernels), 1e6 * op.median,
                    1e6 * op.seconds, 100 * op.seconds / p.ops_seconds, rate_columns(op.traffic, op.seconds, step.bandwidth));
  }
  text += fmt::format("| all ops, one by one | {} | {} | | {:.1f} | 100.0 % | {} |\n", calls, kernels_text(p.kernels), 1e6 * p.ops_seconds,
                      rate_columns(p.traffic, p.ops_seconds, step.bandwidth));
  text += fmt::format("| the step as it runs | | | | {:.1f} | {:.1f} % | {} |\n\n", 1e6 * p.step_seconds,
                      100 * p.step_seconds / p.ops_seconds, rate_columns(p.traffic, p.step_seconds, step.bandwidth));
  text += form_text(p);
  const ReadBandwidth& b = step.bandwidth;
  if (b.known()) {
    text +=
        fmt::format("read bandwidth {:.1f} GB/s before, {:.1f} after{}{}\n", b.before / 1e9, b.after / 1e9, b.measured ? "" : " (as given)",
                    b.wandered() ? ": they differ by more than 10 %, so that shares of it say little" : "");
  }
  if (step.before.sm_clock_mhz > 0) {
    text += fmt::format("SM clock {} MHz before, {} after (at most {}), memory {}, {}; driver {}\n", step.before.sm_clock_mhz,
                        step.after.sm_clock_mhz, step.before.max_sm_clock_mhz, step.before.memory_clock_mhz, step.after.memory_clock_mhz,
                        step.before.driver);
  }
  return text + "\n";
}

Json profile_record(const ProfileContext& context, const ProfiledStep& step) {
  const StepProfile& p = step.profile;
  const ReadBandwidth& b = step.bandwidth;
  const BuildInfo build = build_info();
  const auto only_known = [&](auto value) { return b.known() ? Json(value) : Json(); };
  Json ops = Json::array();
  for (const OpProfile& op : p.ops) ops.push_back(op_json(op, step));
  Json record{{"schema_version", 1},
              {"step", step.label()},
              {"phase", step.prefill ? "prefill" : "decode"},
              {"rows", step.rows},
              {"batch_size", step.batch},
              {"n_depth", step.depth},
              {"test_time", context.started},
              {"command_line", context.command_line},
              {"build_version", build.version},
              {"build_commit", build.commit},
              {"build_type", build.build_type},
              {"model", context.model},
              {"weights_dtype", dtype_name(context.info.weights_dtype)},
              {"kv_cache_dtype", dtype_name(context.info.kv_dtype)},
              {"device", context.info.device.id},
              {"device_name", context.info.device.name},
              {"n_threads", context.threads > 0 ? Json(context.threads) : Json()},
              {"repetitions", context.repetitions},
              {"temperature", context.temperature},
              {"step_us", 1e6 * p.step_seconds},
              {"ops_us", 1e6 * p.ops_seconds},
              {"kernels", p.kernels > 0 ? Json(p.kernels) : Json()},
              {"read_bandwidth_before_gb_per_s", only_known(b.before / 1e9)},
              {"read_bandwidth_after_gb_per_s", only_known(b.after / 1e9)},
              {"read_bandwidth_wandered", only_known(b.wandered())},
              {"read_bandwidth_measured", only_known(b.measured)}};
  record.update(rates_json(p.traffic, p.step_seconds, b));
  record["ops"] = std::move(ops);
  record["runs_as"] = p.form.text.empty() ? Json() : Json(p.form.text);
  Json phases = Json::array();
  for (const PhaseTime& phase : p.form.phases)
    phases.push_back({{"phase", phase.name},
                      {"waiting_us", 1e6 * phase.waiting},
                      {"loading_us", 1e6 * phase.loading},
                      {"computing_us", 1e6 * phase.computing}});
  record["phases"] = std::move(phases);
  add_device_state(record, step.before, step.after);
  return record;
}

}  // namespace bolide
