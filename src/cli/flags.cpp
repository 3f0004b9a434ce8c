#include "cli/flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>

#include "cli/json.h"
#include "cli/nearest.h"
#include "cli/streams.h"
#include "core/messages.h"

namespace bolide {
namespace {

constexpr const char* kCommandLine = "command line";

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

std::string with_dashes(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

std::string environment_name(const CLI::Option& option) {
  if (option.get_lnames().empty()) return "";
  std::string name = "BOLIDE_" + option.get_lnames().front();
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return c == '-' ? '_' : static_cast<char>(std::toupper(c)); });
  return name;
}

}  // namespace

Flags::Flags(std::string command, std::string_view help)
    : command_(std::move(command)), help_(help), app_(std::make_unique<CLI::App>("", "bolide " + command_)) {
  app_->set_help_flag();
  app_->option_defaults()->always_capture_default();  // for --show-config
  // These three are answered before CLI11 sees anything; they are registered so that they are found, listed and suggested.
  not_from_environment(flag("-h,--help", help_wanted_));
  not_from_environment(flag("--version", version_wanted_));
  not_from_environment(flag("--list-flags", list_wanted_));
  not_from_environment(flag("--show-config", show_wanted_));
}

Flags::~Flags() = default;

Flags::Found Flags::find(const std::string& spelling) const {
  const auto alias = aliases_.find(spelling);
  const std::string name = with_dashes(alias == aliases_.end() ? spelling : alias->second);
  for (const CLI::Option* option : app_->get_options()) {
    const bool known = name.starts_with("--") ? option->check_lname(name.substr(2)) : option->check_sname(name.substr(1));
    if (known) return {const_cast<CLI::Option*>(option), name};
  }
  return {nullptr, spelling};
}

std::vector<std::string> Flags::spellings(const CLI::Option& option) const {
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  for (const auto& [alias, flag] : aliases_) {
    if (flag.starts_with("--") && option.check_lname(flag.substr(2))) names.push_back(alias);
  }
  return names;
}

std::string Flags::without_separators(std::string& text) {
  const size_t digits = text.starts_with('-') ? 1 : 0;
  const size_t first = text.find(',', digits);
  if (first == std::string::npos || first == digits || first - digits > 3 || (text.size() - first) % 4 != 0) return "";
  for (size_t i = digits; i < text.size(); ++i) {
    const bool separator = i >= first && (i - first) % 4 == 0;
    if (separator ? text[i] != ',' : text[i] < '0' || text[i] > '9') return "";
  }
  text.erase(std::remove(text.begin(), text.end(), ','), text.end());
  return "";
}

void Flags::unknown(const std::string& spelling) const {
  std::vector<std::string> names;
  for (const CLI::Option* option : app_->get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  throw UsageError(fmt::format("unknown flag {}. Did you mean {}? 'bolide {} --help' lists all", in_quotes(spelling),
                               nearest_name(with_dashes(spelling), names), command_));
}

void Flags::take(const Found& found, const std::string* attached, const Arguments& arguments, size_t& index) {
  sources_[found.option] = kCommandLine;
  tokens_.push_back(found.spelling);
  if (!takes_value(*found.option)) {
    if (attached) tokens_.back() += "=" + *attached;
  } else if (attached) {
    tokens_.push_back(*attached);
  } else if (index + 1 < arguments.size()) {
    tokens_.push_back(arguments[++index]);
  } else {
    throw UsageError(fmt::format("{} needs a value. See 'bolide {} --help'", found.spelling, command_));
  }
}

void Flags::read_long(const Arguments& arguments, size_t& index) {
  const std::string& argument = arguments[index];
  const size_t equals = argument.find('=');
  const std::string name = argument.substr(0, equals);
  const Found found = find(name);
  if (!found.option) unknown(name);
  const std::string attached = equals == std::string::npos ? "" : argument.substr(equals + 1);
  take(found, equals == std::string::npos ? nullptr : &attached, arguments, index);
}

// -n 5, -n5, -qv, -dev cpu.
void Flags::read_short(const Arguments& arguments, size_t& index) {
  const std::string& argument = arguments[index];
  if (const Found whole = find(argument); whole.option) return take(whole, nullptr, arguments, index);
  for (size_t i = 1; i < argument.size(); ++i) {
    const Found found = find({'-', argument[i]});
    if (!found.option) unknown(argument);
    const std::string rest = argument.substr(i + 1);
    if (takes_value(*found.option)) return take(found, rest.empty() ? nullptr : &rest, arguments, index);
    take(found, nullptr, arguments, index);
  }
}

void Flags::read_environment() {
  for (const CLI::Option* option : app_->get_options()) {
    const std::string name = environment_name(*option);
    const char* text = name.empty() ? nullptr : std::getenv(name.c_str());
    if (!text || sources_.contains(option) || std::find(local_.begin(), local_.end(), option) != local_.end()) continue;
    // What the command line says also beats the environment where the two exclude each other (--model, --random-weights).
    const auto& excluded = option->get_excludes();
    if (std::any_of(excluded.begin(), excluded.end(), [&](const CLI::Option* other) { return sources_.contains(other); })) continue;
    const std::string flag = "--" + option->get_lnames().front();
    if (takes_value(*option)) {
      tokens_.insert(tokens_.end(), {flag, text});
    } else {
      const std::string value = text;
      const bool no = value.empty() || value == "0" || value == "false" || value == "off" || value == "no";
      const bool yes = value == "1" || value == "true" || value == "on" || value == "yes";
      if (!no && !yes) throw UsageError(fmt::format("{}={} is neither true nor false", name, value));
      tokens_.push_back(flag + (yes ? "=true" : "=false"));
    }
    sources_[option] = name;
  }
}

void Flags::add_config_file() { config_option_ = value("--config", config_file_).option_; }

void Flags::read_config_file() {
  const auto given = config_option_ ? sources_.find(config_option_) : sources_.end();
  if (given == sources_.end()) return;
  // The value stands behind the flag's last spelling; CLI11 reads it once more with all others.
  std::string path;
  for (size_t i = 0; i + 1 < tokens_.size(); ++i) {
    if (find(tokens_[i]).option == config_option_) path = tokens_[i + 1];
  }
  Json settings;
  try {
    settings = parse_json(read_input(path));
  } catch (const Error& error) {
    throw UsageError(fmt::format("--config {}: {}", in_quotes(path), error.what()));
  }
  if (!settings.is_object())
    throw UsageError(fmt::format("--config {}: not a JSON object such as {{\"temperature\": 0.6}}", in_quotes(path)));
  config_file_ = path;
  for (const auto& [key, value] : settings.items()) take_setting(key, value);
}

void Flags::take_setting(const std::string& key, const Json& value) {
  const auto wrong = [&](const std::string& why) {
    return UsageError(fmt::format("--config {}: {} {}", in_quotes(config_file_), in_quotes(key), why));
  };
  const Found found = find("--" + key);
  const CLI::Option* option = key.starts_with('-') ? nullptr : found.option;
  if (!option) {
    std::vector<std::string> names;
    for (const CLI::Option* each : app_->get_options()) names.insert(names.end(), each->get_lnames().begin(), each->get_lnames().end());
    throw wrong(fmt::format("is no flag. Did you mean '{}'?", nearest_name(with_dashes(key), names)));
  }
  if (option == config_option_ || std::find(local_.begin(), local_.end(), option) != local_.end())
    throw wrong("belongs to one call and is given on the command line");
  if (const auto given = sources_.find(option); given != sources_.end()) {
    if (given->second == config_file_) throw wrong("is there twice, under two names");
    return;
  }
  const auto& excluded = option->get_excludes();
  if (std::any_of(excluded.begin(), excluded.end(), [&](const CLI::Option* other) { return sources_.contains(other); })) return;
  if (takes_value(*option)) {
    const Json values = value.is_array() ? value : Json::array({value});
    for (const Json& each : values) {
      if (!each.is_string() && !each.is_number()) throw wrong("is neither a text nor a number");
      tokens_.insert(tokens_.end(), {found.spelling, each.is_string() ? each.get<std::string>() : each.dump()});
    }
  } else {
    if (!value.is_boolean()) throw wrong("is neither true nor false");
    tokens_.push_back(found.spelling + (value.get<bool>() ? "=true" : "=false"));
  }
  sources_[option] = config_file_;
}

std::string Flags::list_flags() const {
  std::string text;
  for (const CLI::Option* option : app_->get_options()) {
    const auto names = spellings(*option);
    if (!names.empty()) text += fmt::format("{}{}\n", fmt::join(names, " "), takes_value(*option) ? " VALUE" : "");
  }
  return text;
}

std::string Flags::show_config() const {
  std::string text;
  const Decided decided = decided_ ? decided_() : Decided{};
  for (const CLI::Option* option : app_->get_options()) {
    const std::string name = option->get_lnames().empty() ? "" : option->get_lnames().front();
    if (name.empty() || name == "help" || name == "version" || name == "list-flags") continue;
    const auto source = sources_.find(option);
    text += fmt::format("--{}", option->get_lnames().front());
    if (source != sources_.end()) {
      text += fmt::format(" {}  ({})\n", fmt::join(option->reduced_results(), " "), source->second);
      continue;
    }
    if (const auto found = decided.find(option->get_lnames().front()); found != decided.end()) {
      text += fmt::format(" {}  ({})\n", found->second.value, found->second.source);
      continue;
    }
    const std::string built_in = option->get_default_str();
    text += fmt::format("{}  (default)\n", built_in.empty() || built_in == "[]" || built_in == "{}" ? "" : " " + built_in);
  }
  return text;
}

bool Flags::given(const std::string& flag) const {
  const auto source = sources_.find(app_->get_option(flag));
  return source != sources_.end() && source->second == kCommandLine;
}

bool Flags::parse(const Arguments& arguments) {
  if (FlagListing::active_) {
    for (const CLI::Option* option : app_->get_options()) {
      if (!spellings(*option).empty()) FlagListing::active_->flags.push_back(facts(*option));
    }
    return false;
  }
  std::vector<std::string> rest;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--") {
      rest.insert(rest.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1, arguments.end());
      break;
    }
    if (argument.starts_with("--"))
      read_long(arguments, i);
    else if (argument.size() > 1 && argument.front() == '-')
      read_short(arguments, i);
    else
      rest.push_back(argument);
  }
  ResultStream out;
  if (given("--help") || given("--version") || given("--list-flags")) {
    out.write(given("--help") ? help_ : given("--version") ? version_text() : list_flags());
    out.finish();
    return false;
  }
  if (!rest.empty() && !positionals_) {
    throw UsageError(fmt::format("unexpected argument {}. Text and files are given by flags; see 'bolide {} --help'",
                                 in_quotes(rest.front()), command_));
  }
  read_environment();
  read_config_file();
  if (!rest.empty()) tokens_.push_back("--");
  tokens_.insert(tokens_.end(), rest.begin(), rest.end());
  std::reverse(tokens_.begin(), tokens_.end());  // CLI11 takes them from the back
  try {
    app_->parse(std::move(tokens_));
  } catch (const CLI::ParseError& error) {
    throw UsageError(fmt::format("{}. See 'bolide {} --help'", error.what(), command_));
  }
  if (given("--show-config")) {
    out.write(show_config());
    out.finish();
    return false;
  }
  return true;
}

}  // namespace bolide
