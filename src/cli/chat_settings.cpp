#include "cli/chat_settings.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "cli/nearest.h"
#include "cli/values.h"
#include "core/error.h"
#include "core/messages.h"

namespace bolide {
namespace {

constexpr int32_t kNoLimit = std::numeric_limits<int32_t>::max();

[[noreturn]] void wrong(const std::string& name, const std::string& value, const char* form) {
  throw UsageError(fmt::format("/set {}: {} is not {}", name, in_quotes(value), form));
}

template <typename T>
T number(const std::string& name, const std::string& value, const char* form) {
  T out{};
  const auto [end, problem] = std::from_chars(value.data(), value.data() + value.size(), out);
  if (problem != std::errc() || end != value.data() + value.size()) wrong(name, value, form);
  return out;
}

struct Setting {
  const char* name;
  std::string (*show)(const ChatSettings&);
  void (*set)(ChatSettings&, const std::string& name, const std::string& value);
};

template <float SamplingParams::*Field>
constexpr Setting real(const char* name) {
  return {name, [](const ChatSettings& s) { return fmt::format("{:g}", s.params.*Field); },
          [](ChatSettings& s, const std::string& n, const std::string& value) {
            const float given = number<float>(n, value, "a number");
            if (!std::isfinite(given)) wrong(n, value, "a finite number");
            s.params.*Field = given;
          }};
}

template <int32_t SamplingParams::*Field>
constexpr Setting whole(const char* name) {
  return {name, [](const ChatSettings& s) { return fmt::format("{}", s.params.*Field); },
          [](ChatSettings& s, const std::string& n, const std::string& value) {
            s.params.*Field = number<int32_t>(n, value, "a whole number");
          }};
}

std::string show_max_tokens(const ChatSettings& s) {
  return s.params.max_tokens == kNoLimit ? "-1" : fmt::format("{}", s.params.max_tokens);
}

void set_max_tokens(ChatSettings& s, const std::string& name, const std::string& value) {
  const auto tokens = number<int32_t>(name, value, "a number of tokens, or -1 for no limit");
  if (tokens < -1 || tokens == 0) wrong(name, value, "a number of tokens, or -1 for no limit");
  s.params.max_tokens = tokens == -1 ? kNoLimit : tokens;
}

void set_stats(ChatSettings& s, const std::string& name, const std::string& value) {
  if (value != "on" && value != "off") wrong(name, value, "on or off");
  s.stats = value == "on";
}

void set_top_k(ChatSettings& s, const std::string& name, const std::string& value) {
  const auto k = number<int32_t>(name, value, "a whole number (0 = off)");
  s.params.top_k = k == -1 ? 0 : k;
}

constexpr std::array<Setting, 11> kSettings{{
    real<&SamplingParams::temperature>("temperature"),
    {"top-k", [](const ChatSettings& s) { return fmt::format("{}", s.params.top_k); }, set_top_k},
    real<&SamplingParams::top_p>("top-p"),
    real<&SamplingParams::min_p>("min-p"),
    real<&SamplingParams::repetition_penalty>("repeat-penalty"),
    whole<&SamplingParams::repeat_last_n>("repeat-last-n"),
    real<&SamplingParams::presence_penalty>("presence-penalty"),
    real<&SamplingParams::frequency_penalty>("frequency-penalty"),
    {"seed", [](const ChatSettings& s) { return fmt::format("{}", s.params.seed); },
     [](ChatSettings& s, const std::string&, const std::string& value) { s.params.seed = parse_seed(value); }},
    {"max-tokens", show_max_tokens, set_max_tokens},
    {"stats", [](const ChatSettings& s) { return std::string(s.stats ? "on" : "off"); }, set_stats},
}};

std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const Setting& setting : kSettings) out.emplace_back(setting.name);
  return out;
}

}  // namespace

void change_setting(ChatSettings settings, int32_t vocab, const std::string& name, const std::string& value) {
  std::string wanted = name;
  std::replace(wanted.begin(), wanted.end(), '_', '-');
  if (wanted == "temp") wanted = "temperature";
  const auto found = std::find_if(kSettings.begin(), kSettings.end(), [&](const Setting& setting) { return setting.name == wanted; });
  if (found == kSettings.end())
    throw UsageError(
        fmt::format("/set: there is no setting {}. Did you mean {}? /set lists all", in_quotes(name), nearest_name(wanted, names())));
  SamplingParams changed = settings.params;
  bool stats = settings.stats;
  ChatSettings trial{changed, stats};
  found->set(trial, found->name, value);
  changed.validate(vocab);
  settings.params = std::move(changed);
  settings.stats = stats;
}

std::vector<std::string> setting_lines(ChatSettings settings) {
  std::vector<std::string> lines;
  for (const Setting& setting : kSettings) lines.push_back(fmt::format("{} {}", setting.name, setting.show(settings)));
  return lines;
}

std::string setting_names() {
  std::string out;
  for (const std::string& name : names()) out += (out.empty() ? "" : ", ") + name;
  return out;
}

}  // namespace bolide
