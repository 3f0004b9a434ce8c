// How flags take their values: all that CLI11 makes anew for every type.
#include <CLI/CLI.hpp>
#include <type_traits>

#include "cli/flags.h"

namespace bolide {
namespace {

template <typename T>
constexpr bool kWhole = std::is_integral_v<T> || std::is_same_v<T, std::optional<int32_t>>;

}  // namespace

const Flag& Flag::one_of(std::initializer_list<std::string> values) const {
  option_->check(CLI::IsMember(std::vector<std::string>(values)));
  return *this;
}

const Flag& Flag::in_range(int32_t least, int32_t greatest) const {
  option_->check(CLI::Range(least, greatest));
  return *this;
}

const Flag& Flag::in_range(int64_t least, int64_t greatest) const {
  option_->check(CLI::Range(least, greatest));
  return *this;
}

const Flag& Flag::in_range(double least, double greatest) const {
  option_->check(CLI::Range(least, greatest));
  return *this;
}

const Flag& Flag::positive() const {
  option_->check(CLI::PositiveNumber);
  return *this;
}

const Flag& Flag::not_negative() const {
  option_->check(CLI::NonNegativeNumber);
  return *this;
}

const Flag& Flag::excludes(const Flag& other) const {
  option_->excludes(other.option_);
  return *this;
}

void Flags::only_one_of(std::initializer_list<Flag> ways) {
  for (const Flag* way = ways.begin(); way != ways.end(); ++way) {
    not_from_environment(*way);
    for (const Flag* other = way + 1; other != ways.end(); ++other) way->excludes(*other);
  }
}

template <typename T>
Flag Flags::value(const std::string& names, T& target) {
  CLI::Option* option = app_->add_option(names, target)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  if constexpr (kWhole<T>) option->transform(CLI::Validator(without_separators, ""));
  return Flag(option);
}

template Flag Flags::value(const std::string&, std::string&);
template Flag Flags::value(const std::string&, int32_t&);
template Flag Flags::value(const std::string&, int64_t&);
template Flag Flags::value(const std::string&, uint64_t&);
template Flag Flags::value(const std::string&, double&);
template Flag Flags::value(const std::string&, std::optional<std::string>&);
template Flag Flags::value(const std::string&, std::optional<int32_t>&);
template Flag Flags::value(const std::string&, std::optional<uint64_t>&);
template Flag Flags::value(const std::string&, std::optional<float>&);

Flag Flags::list(const std::string& names, std::vector<std::string>& target) {
  // Without extra arguments CLI11 leaves a value such as "[INST]" as it is instead of reading it as a list.
  return Flag(app_->add_option(names, target)->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)->allow_extra_args(false));
}

Flag Flags::flag(const std::string& names, bool& target) {
  return Flag(app_->add_flag(names, target)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)->default_str(target ? "true" : "false"));
}

Flag Flags::optional_flag(const std::string& names, std::optional<bool>& target) {
  return Flag(app_->add_flag_function(names, [&target](int64_t value) { target = value > 0; })
                  ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast));
}

Flag Flags::callback(const std::string& names, std::function<void(const std::string&)> take) {
  return Flag(app_->add_option_function<std::string>(names, std::move(take))->multi_option_policy(CLI::MultiOptionPolicy::TakeLast));
}

void Flags::positional(const std::string& name, std::string& target) {
  app_->add_option(name, target);
  positionals_ = true;
}

void Flags::positional(const std::string& name, std::vector<std::string>& target) {
  app_->add_option(name, target);
  positionals_ = true;
}

}  // namespace bolide
