// Completion scripts, written from the commands and flags that this program has.
#pragma once

#include <string>
#include <vector>

#include "cli/flags.h"

namespace bolide {

struct CommandFacts {
  std::string name;  // "generate", "bench ops"
  std::string summary;
  std::vector<FlagFacts> flags;
};

// Each completes commands, flags (the names offered), and values: the choices of a flag, files where it has none. Names and choices
// are the program's own and hold nothing that a shell would read as its own; BOLIDE_CHECK says so.
std::string bash_completion(const std::vector<CommandFacts>& commands);
std::string zsh_completion(const std::vector<CommandFacts>& commands);
std::string fish_completion(const std::vector<CommandFacts>& commands);

}  // namespace bolide
