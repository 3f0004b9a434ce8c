// bolide completion: scripts for shells, made from the command table and from what each command says of its flags.
#include "cli/command.h"
#include "cli/completion_scripts.h"
#include "cli/streams.h"
#include "core/messages.h"

namespace bolide {
namespace {

constexpr std::string_view kHelp = R"(Usage: bolide completion bash|zsh|fish
Prints a script that completes commands, flags and values. It is made from the flags themselves,
so make it anew after an update.

  -h, --help  --version  --list-flags  --show-config

Example
  source <(bolide completion bash)
)";

// Values that a flag takes beside others, or checks by itself.
std::vector<std::string> known_values(const FlagFacts& flag) {
  const std::string& name = flag.offered.back();
  if (name == "--device") return {"auto", "cpu", "cuda"};
  if (name == "--kv-cache-dtype") return {"auto", "float32", "float16", "bfloat16", "fp8"};
  if (name == "--dtype" || name == "--random-dtype") return {"auto", "float32", "float16", "bfloat16"};
  return flag.choices;
}

CommandFacts facts_of(const Command& command) {
  FlagListing listing;
  command.run({});
  for (FlagFacts& flag : listing.flags) flag.choices = known_values(flag);
  return {std::string(command.name), std::string(command.summary), std::move(listing.flags)};
}

std::vector<CommandFacts> command_tree() {
  std::vector<CommandFacts> tree;
  for (const Command& command : commands()) tree.push_back(facts_of(command));
  for (const Command& command : nested_commands()) tree.push_back(facts_of(command));
  return tree;
}

}  // namespace

ExitCode run_completion(const Arguments& arguments) {
  std::string shell;
  Flags flags("completion", kHelp);
  flags.positional("shell", shell);
  if (!flags.parse(arguments)) return ExitCode::ok;
  std::string script;
  if (shell == "bash")
    script = bash_completion(command_tree());
  else if (shell == "zsh")
    script = zsh_completion(command_tree());
  else if (shell == "fish")
    script = fish_completion(command_tree());
  else if (shell.empty())
    throw UsageError("which shell? bolide completion bash, zsh or fish");
  else
    throw UsageError(fmt::format("no completion for {}. There is bash, zsh and fish", in_quotes(shell)));
  ResultStream out;
  out.write(script);
  out.finish();
  return ExitCode::ok;
}

}  // namespace bolide
