// A command's flags. CLI11 converts and checks values; around it stands what scripts and people rely on and CLI11 does not do:
// `_` is as good as `-` in names, unknown flags are answered with the nearest one, the last of a repeated flag wins, a value may
// begin with a dash, single-dash long aliases (-dev), whole numbers may have thousands separators, and every flag can come from the
// environment (--top-k: BOLIDE_TOP_K).
#pragma once

#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command.h"

// CLI11 stays behind flags.cpp and its neighbours: what includes it compiles for seconds longer.
namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace bolide {

// One flag as shell completion needs it.
struct FlagFacts {
  std::vector<std::string> spellings;  // all of them, with their dashes
  std::vector<std::string> offered;    // those to propose: short names, the first long one, and what switches it off
  bool takes_value = false;
  std::vector<std::string> choices;  // of the value; empty: anything
};

// While one lives, Flags::parse() only hands over what the command takes and returns false, so that a command can be asked for its flags
// by running it. Not to be nested.
class FlagListing {
 public:
  FlagListing();
  ~FlagListing();
  FlagListing(const FlagListing&) = delete;
  FlagListing& operator=(const FlagListing&) = delete;
  std::vector<FlagFacts> flags;

 private:
  friend class Flags;
  static FlagListing* active_;
};

// One flag of a command, and what may be asked of its value; whoever gives another one is told what is allowed.
class Flag {
 public:
  const Flag& one_of(std::initializer_list<std::string> values) const;
  const Flag& in_range(int32_t least, int32_t greatest) const;
  const Flag& in_range(int64_t least, int64_t greatest) const;
  const Flag& in_range(double least, double greatest) const;
  const Flag& positive() const;
  const Flag& not_negative() const;
  // Not with the other one.
  const Flag& excludes(const Flag& other) const;

 private:
  friend class Flags;
  explicit Flag(CLI::Option* option) : option_(option) {}
  CLI::Option* option_;
};

class Flags {
 public:
  Flags(std::string command, std::string_view help);
  ~Flags();

  // `names` as CLI11 writes them: "-n,--max-tokens,--predict". The first long name is the flag's name in messages and in the
  // environment; the others are kept for good. T: one of those that flag_values.cpp instantiates.
  template <typename T>
  Flag value(const std::string& names, T& target);
  // One value per occurrence, all are kept.
  Flag list(const std::string& names, std::vector<std::string>& target);
  // "--warmup,!--no-warmup": the second sets false.
  Flag flag(const std::string& names, bool& target);
  // A flag that may also be left open.
  Flag optional_flag(const std::string& names, std::optional<bool>& target);
  // A value that becomes something else: `take` gets its text.
  Flag callback(const std::string& names, std::function<void(const std::string&)> take);
  void positional(const std::string& name, std::string& target);
  void positional(const std::string& name, std::vector<std::string>& target);
  // Another spelling that CLI11 cannot express, such as "-dev" for "--device".
  void alias(const std::string& spelling, const std::string& flag) { aliases_[spelling] = flag; }
  // What belongs to one call and never comes from the environment: a prompt, a list request.
  void not_from_environment(const Flag& flag) { local_.push_back(flag.option_); }

  // Ways to give a call's input, of which it takes one.
  void only_one_of(std::initializer_list<Flag> ways);

  // --config FILE: a JSON object whose keys are flags, {"temperature": 0.6, "stop": ["a", "b"], "ignore-eos": true}. Command line and
  // environment win over it.
  void add_config_file();

  // For --show-config: what decides flags that were not given, such as a model's generation_config.json, by their first long names. Asked
  // only then, when the given ones have their values.
  struct Decision {
    std::string value, source;
  };
  using Decided = std::map<std::string, Decision>;
  void decided_elsewhere(std::function<Decided()> ask) { decided_ = std::move(ask); }

  // False when the call only asked for --help, --version, --list-flags or --show-config, which is then printed. Throws UsageError.
  bool parse(const Arguments& arguments);
  // After parse: whether the command line itself (not the environment) holds the flag.
  bool given(const std::string& flag) const;

 private:
  // Whole numbers may be written as messages print them: "46,000" becomes "46000" in place. Never an error: what is no number is left to
  // the conversion.
  static std::string without_separators(std::string& text);
  struct Found {
    CLI::Option* option;
    std::string spelling;  // with its dashes
  };
  Found find(const std::string& spelling) const;
  [[noreturn]] void unknown(const std::string& spelling) const;
  void read_long(const Arguments& arguments, size_t& index);
  void read_short(const Arguments& arguments, size_t& index);
  void take(const Found& found, const std::string* attached, const Arguments& arguments, size_t& index);
  void read_environment();
  void read_config_file();
  void take_setting(const std::string& key, const nlohmann::ordered_json& value);
  std::vector<std::string> spellings(const CLI::Option& option) const;
  FlagFacts facts(const CLI::Option& option) const;
  std::string list_flags() const;
  std::string show_config() const;

  std::string command_;
  std::string help_;
  std::unique_ptr<CLI::App> app_;
  bool positionals_ = false;
  bool help_wanted_ = false, version_wanted_ = false, list_wanted_ = false, show_wanted_ = false;
  std::map<std::string, std::string> aliases_;
  std::vector<CLI::Option*> local_;
  std::vector<std::string> tokens_;  // for CLI11: one spelling, one value
  std::map<const CLI::Option*, std::string> sources_;
  const CLI::Option* config_option_ = nullptr;
  std::string config_file_;
  std::function<Decided()> decided_;
};

}  // namespace bolide
