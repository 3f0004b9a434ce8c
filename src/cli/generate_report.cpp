#include "cli/generate_report.h"

#include <algorithm>
#include <cmath>

#include "cli/json.h"

namespace bolide {
namespace {

Json logprob_array(const std::vector<float>& values, bool first_is_null) {
  Json array = Json::array();
  for (size_t i = 0; i < values.size(); ++i) array.push_back(i == 0 && first_is_null ? Json() : json_number(values[i]));
  return array;
}

Json top_array(const std::vector<std::vector<TokenLogprob>>& tokens) {
  Json array = Json::array();
  for (const auto& top : tokens) {
    Json row = Json::array();
    for (const TokenLogprob& entry : top) row.push_back(Json::array({entry.id, json_number(entry.logprob)}));
    array.push_back(std::move(row));
  }
  return array;
}

Json sampling_json(const SamplingParams& p) {
  Json biases = Json::array();
  for (const LogitBias& bias : p.logit_bias) biases.push_back(Json::array({bias.id, json_number(bias.bias)}));
  const bool limited = p.max_tokens != std::numeric_limits<int32_t>::max();
  return {{"temperature", json_number(p.temperature)},
          {"top_k", p.top_k},
          {"top_p", json_number(p.top_p)},
          {"min_p", json_number(p.min_p)},
          {"repetition_penalty", json_number(p.repetition_penalty)},
          {"repeat_last_n", p.repeat_last_n},
          {"presence_penalty", json_number(p.presence_penalty)},
          {"frequency_penalty", json_number(p.frequency_penalty)},
          {"logit_bias", std::move(biases)},
          {"max_tokens", limited ? Json(p.max_tokens) : Json()},
          {"stop", p.stop},
          {"stop_token_ids", p.stop_token_ids},
          {"ignore_eos", p.ignore_eos}};
}

std::string echoed(const GenerateRun& run) {
  if (!run.options.echo || !run.engine.tokenizer()) return "";
  return run.prompt.text ? *run.prompt.text : run.engine.tokenizer()->decode(run.prompt.ids, false);
}

Json choice_json(const GenerateRun& run, size_t index) {
  const SequenceResult& result = run.results[index];
  const bool logprobs = run.params.logprobs >= 0;
  return {{"index", index},
          {"token_ids", result.ids},
          {"token_logprobs", logprobs ? logprob_array(result.logprobs, false) : Json()},
          {"top_logprobs", logprobs ? top_array(result.top) : Json()},
          {"text", run.engine.tokenizer() ? Json(echoed(run) + result.text) : Json()},
          {"finish_reason", finish_reason_name(result.reason)},
          {"stop_string", result.stop_match ? Json(*result.stop_match) : Json()},
          {"stop_token_id", result.stop_token ? Json(*result.stop_token) : Json()}};
}

Json usage_json(const GenerateRun& run, std::span<const SequenceResult> results) {
  const int64_t prompt = static_cast<int64_t>(run.prompt.ids.size()), completion = rates_of(results).output_tokens;
  return {{"prompt_tokens", prompt}, {"completion_tokens", completion}, {"total_tokens", prompt + completion}};
}

// The stages from the program's start to the prefill of the first token, in their order; seconds. With the prefill, their sum is the
// time to the first token.
std::vector<std::pair<std::string, double>> stages(const GenerateRun& run, double prefill_seconds) {
  const LoadTimes& load = run.engine.info().load;
  const double known = run.load_begin_seconds + load.device + load.open + load.memory + load.weights + load.tokenizer + prefill_seconds;
  return {{"start", run.load_begin_seconds},
          {"device", load.device},
          {"open", load.open},
          {"memory", load.memory},
          {"weights", load.weights},
          {"tokenizer", load.tokenizer},
          {"other", std::max(0.0, run.first_token_seconds - known)}};
}

Json timing_json(const GenerateRun& run, std::span<const SequenceResult> results) {
  const Rates rates = rates_of(results);
  const auto rate = [](double value) { return value > 0 ? Json(value) : Json(); };
  Json json{{"load_seconds", run.load_seconds},
            {"time_to_first_token_seconds", rate(run.first_token_seconds)},
            {"prefill_seconds", rates.prefill_seconds},
            {"decode_seconds", rates.decode_seconds},
            {"total_seconds", run.total_seconds},
            {"prefill_tokens_per_second", rate(rates.prefill_rate)},
            {"decode_tokens_per_second", rate(rates.decode_rate)}};
  for (const auto& [name, seconds] : stages(run, rates.prefill_seconds)) json[name + "_seconds"] = seconds;
  return json;
}

Json run_json(const GenerateRun& run, size_t first) {
  const EngineInfo& info = run.engine.info();
  const auto& prompt_logprobs = run.results[first].prompt_logprobs;
  return {{"schema_version", kGenerateSchemaVersion},
          {"model", run.options.model.name()},
          {"architecture", run.engine.config().architecture},
          {"device", {{"id", info.device.id}, {"name", info.device.name}, {"reason", info.device_reason}}},
          {"weights_dtype", dtype_name(info.weights_dtype)},
          {"kv_cache_dtype", dtype_name(info.kv_dtype)},
          {"ctx_size", info.ctx_size},
          {"seed", run.params.seed},
          {"sampling", sampling_json(run.params)},
          {"prompt_ids", run.prompt.ids},
          {"prompt_logprobs", run.params.prompt_logprobs ? logprob_array(prompt_logprobs, true) : Json()}};
}

}  // namespace

Rates rates_of(std::span<const SequenceResult> results) {
  Rates rates;
  int64_t prompts = 0, decoded = 0;
  for (const SequenceResult& result : results) {
    const int64_t tokens = static_cast<int64_t>(result.ids.size());
    rates.output_tokens += tokens;
    prompts += result.stats.prompt_tokens;
    decoded += std::max<int64_t>(0, tokens - 1);
    rates.prefill_seconds = std::max(rates.prefill_seconds, result.stats.prefill_seconds);
    rates.decode_seconds = std::max(rates.decode_seconds, result.stats.decode_seconds);
  }
  if (rates.prefill_seconds > 0) rates.prefill_rate = static_cast<double>(prompts) / rates.prefill_seconds;
  if (rates.decode_seconds > 0) rates.decode_rate = static_cast<double>(decoded) / rates.decode_seconds;
  return rates;
}

std::string json_report(const GenerateRun& run) {
  const std::span<const SequenceResult> all = run.results;
  if (run.options.output_format == "jsonl") {
    std::string lines;
    for (size_t i = 0; i < all.size(); ++i) {
      Json object = run_json(run, i);
      object.update(choice_json(run, i));
      object["usage"] = usage_json(run, all.subspan(i, 1));
      object["timing"] = timing_json(run, all.subspan(i, 1));
      lines += json_text(object) + "\n";
    }
    return lines;
  }
  Json object = run_json(run, 0);
  if (all.size() == 1) {
    object.update(choice_json(run, 0));
  } else {
    Json choices = Json::array();
    for (size_t i = 0; i < all.size(); ++i) choices.push_back(choice_json(run, i));
    object["choices"] = std::move(choices);
  }
  object["usage"] = usage_json(run, all);
  object["timing"] = timing_json(run, all);
  return json_text(object) + "\n";
}

std::string stop_text(const GenerateRun& run, const SequenceResult& result) {
  if (result.reason == FinishReason::cancelled || result.reason == FinishReason::none) return "stopped: interrupted";
  if (result.reason == FinishReason::length) {
    const int32_t limit = run.params.max_tokens;
    if (static_cast<int64_t>(result.ids.size()) >= limit)
      return fmt::format("stopped: length ({} of --max-tokens {})", result.ids.size(), limit);
    return fmt::format("stopped: length (the context of {} tokens is full)", run.engine.info().ctx_size);
  }
  if (result.stop_match) return fmt::format("stopped: stop string {}", json_text(Json(*result.stop_match)));
  if (!result.stop_token) return "stopped: stop";
  const auto eos = run.engine.eos_ids();
  const bool is_eos = std::find(eos.begin(), eos.end(), *result.stop_token) != eos.end();
  return fmt::format("stopped: {} {}", is_eos ? "eos" : "stop token", *result.stop_token);
}

std::string load_split(const GenerateRun& run) {
  const double prefill = rates_of(run.results).prefill_seconds;
  std::string line = fmt::format("first token after {:.0f} ms:", 1e3 * run.first_token_seconds);
  for (const auto& [name, seconds] : stages(run, prefill)) line += fmt::format(" {} {:.1f},", name, 1e3 * seconds);
  return line + fmt::format(
                    " prefill {:.1f} (start: before loading; open: headers, configuration; memory: KV cache and workspace; weights: "
                    "until they are on the device; tokenizer: what was left to wait for; other: tokenising and the like)",
                    1e3 * prefill);
}

std::vector<std::string> statistics(const GenerateRun& run) {
  const Rates rates = rates_of(run.results);
  const EngineInfo& info = run.engine.info();
  std::vector<std::string> lines;
  std::string line = fmt::format("prompt {} tokens", run.prompt.ids.size());
  if (rates.prefill_rate > 0) line += fmt::format(", prefill {:.1f} tok/s", rates.prefill_rate);
  if (run.first_token_seconds > 0) {
    const double other = std::max(0.0, run.first_token_seconds - run.load_seconds - rates.prefill_seconds);
    line += fmt::format(" | first token after {:.3f} s (load {:.3f}, prefill {:.3f}, other {:.3f})", run.first_token_seconds,
                        run.load_seconds, rates.prefill_seconds, other);
  }
  lines.push_back(line);
  line = fmt::format("output {} tokens", rates.output_tokens);
  if (rates.decode_rate > 0) line += fmt::format(", decode {:.1f} tok/s", rates.decode_rate);
  if (run.results.size() == 1) line += " | " + stop_text(run, run.results[0]);
  lines.push_back(line);
  for (size_t i = 0; run.results.size() > 1 && i < run.results.size(); ++i)
    lines.push_back(fmt::format("sequence {}: {} tokens | {}", i, run.results[i].ids.size(), stop_text(run, run.results[i])));
  lines.push_back(fmt::format("seed {} | {} | weights {}, KV cache {}, context {}", run.params.seed, info.device_reason,
                              dtype_name(info.weights_dtype), dtype_name(info.kv_dtype), info.ctx_size));
  return lines;
}

}  // namespace bolide
