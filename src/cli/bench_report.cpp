#include "cli/bench_report.h"

#include <ctime>

#include "cli/bench_record.h"
#include "core/human.h"

namespace bolide {
namespace {

// "93 %", "93 % (7 of 9)", "93 % * (3 of 9)"
std::string share_text(const ReadShares& shares) {
  const size_t all = shares.percents.size();
  if (all == 0) return "";
  const std::string counted = shares.steady < all ? fmt::format(" ({} of {})", shares.steady, all) : "";
  return fmt::format("{:.0f} %{}{}", shares.median, shares.doubtful() ? " *" : "", counted);
}

// "41.2 (31.0 to 55.8)", or as given.
std::string read_bandwidth_text(const ReadBandwidth& bandwidth, const Spread& all) {
  if (!bandwidth.known()) return "";
  if (!bandwidth.measured) return fmt::format("{:.1f}", all.median / 1e9);
  return fmt::format("{:.1f} ({:.1f} to {:.1f})", all.median / 1e9, all.least / 1e9, all.most / 1e9);
}

std::string markdown_row(const BenchContext& context, const BenchResult& result) {
  const BenchFigures f = figures_of(context, result);
  const bool decode = result.test.is_decode();
  const std::string device =
      context.threads > 0 ? fmt::format("{}, {} threads", context.info.device.id, context.threads) : context.info.device.id;
  const double parameters = static_cast<double>(context.config.parameters());
  const std::string size = parameters >= 1e9 ? fmt::format("{:.2f} B", parameters / 1e9) : fmt::format("{:.2f} M", parameters / 1e6);
  return fmt::format("| {} | {} | {} | {} | {} | {} | {:.2f} ± {:.2f} | {:.2f} | {:.2f} | {:.2f} | {} | {} | {} | {} |\n",
                     context.config.model_type, human_bytes(context.info.weights_bytes), size, device, dtype_name(context.info.kv_dtype),
                     result.test.label(), f.rates.mean, f.rates.deviation, f.rates.median, f.rates.least, f.rates.most,
                     decode ? fmt::format("{:.1f}", f.bandwidth / 1e9) : "", share_text(f.shares),
                     read_bandwidth_text(result.bandwidth, f.read_bandwidth), decode ? "" : fmt::format("{:.1f}", f.first_token_ms));
}

std::string csv_line(const Json& json, bool header) {
  std::string line;
  for (const auto& [key, value] : json.items()) {
    if (value.is_array()) continue;
    std::string field = header ? key : value.is_string() ? value.get<std::string>() : value.is_null() ? "" : json_text(value);
    if (field.find_first_of(",\"\n") != std::string::npos) {
      for (size_t i = 0; (i = field.find('"', i)) != std::string::npos; i += 2) field.insert(i, 1, '"');
      field = fmt::format("\"{}\"", field);
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
          "| model | size | params | device | kv | test | t/s | median | min | max | GB/s | of read bw | read bw | TTFT ms "
          "|\n"
          "|---|---:|---:|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";
    }
    note(context, result);
    return text + markdown_row(context, result);
  }
  const Json json = bench_record(context, result);
  if (format_ == "csv") return (first ? csv_line(json, true) : "") + csv_line(json, false);
  if (format_ == "jsonl") return json_text(json) + "\n";
  return (first ? "[\n" : ",\n") + json_text(json);
}

void BenchReport::note(const BenchContext& context, const BenchResult& result) {
  const auto add = [&](const std::string& line) {
    if (notes_.find(line) == std::string::npos) notes_ += line;
  };
  const std::string& device = context.info.device.name;
  const ReadBandwidth& bandwidth = result.bandwidth;
  if (bandwidth.known() && bandwidth.measured) {
    add(device +
        ": read bandwidth in GB/s, measured before and after each repetition (where none decodes, each test): median (least to most)\n");
  } else if (bandwidth.known()) {
    add(fmt::format("{}: read bandwidth {:.1f} GB/s, as given\n", device, bandwidth.before / 1e9));
  }
  const ReadShares shares = figures_of(context, result).shares;
  if (!shares.percents.empty() && bandwidth.measured) {
    add("of read bw: median over repetitions, each against the mean of the two measurements around it\n");
  }
  if (shares.steady < shares.percents.size()) {
    add("(n of m): the median is over the n of m repetitions around which the two measurements agree within 10 %; over all where n is 0\n");
  }
  if (shares.doubtful()) add("* these are fewer than half: the share says little\n");
  const DeviceState &before = result.before, &after = result.after;
  if (before.sm_clock_mhz > 0) {
    notes_ += fmt::format("{}: SM clock {} MHz before, {} after (at most {}), memory {}, {}; {} C; {:.0f} W of {:.0f}; driver {}{}\n",
                          result.test.label(), before.sm_clock_mhz, after.sm_clock_mhz, before.max_sm_clock_mhz, before.memory_clock_mhz,
                          after.memory_clock_mhz, after.temperature_c, after.power_watts, before.power_limit_watts, before.driver,
                          after.throttled_by.empty() ? "" : ", held back by " + after.throttled_by);
  }
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
