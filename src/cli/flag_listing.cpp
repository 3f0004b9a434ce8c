// What a command's flags are, for those who complete them.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <sstream>

#include "cli/flags.h"

namespace bolide {

FlagListing* FlagListing::active_ = nullptr;

FlagListing::FlagListing() {
  BOLIDE_CHECK(!active_);
  active_ = this;
}

FlagListing::~FlagListing() { active_ = nullptr; }

FlagFacts Flags::facts(const CLI::Option& option) const {
  FlagFacts facts{spellings(option), {}, option.get_items_expected_max() > 0, {}};
  for (const std::string& name : option.get_snames()) facts.offered.push_back("-" + name);
  const std::vector<std::string>& switching_off = option.get_fnames();
  bool first = true;
  for (const std::string& name : option.get_lnames()) {
    const bool off = std::find(switching_off.begin(), switching_off.end(), name) != switching_off.end();
    if (first || off) facts.offered.push_back("--" + name);
    first = first && off;
  }
  // CLI11 keeps the members of an IsMember check in the name of the type: "TEXT:{auto,always,never}".
  const std::string type = option.get_type_name();
  const size_t begin = type.find('{'), end = type.find('}');
  if (!facts.takes_value || begin == std::string::npos || end == std::string::npos) return facts;
  std::istringstream members(type.substr(begin + 1, end - begin - 1));
  for (std::string member; std::getline(members, member, ',');) facts.choices.push_back(member);
  return facts;
}

}  // namespace bolide
