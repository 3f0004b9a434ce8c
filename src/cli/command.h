// The command table. A command is one function in a file of its name; it gets the arguments after its name and returns the exit code.
// Adding one takes a declaration here, a row in command.cpp, and the golden list of its flags in tests/cli.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace bolide {

using Arguments = std::vector<std::string>;

ExitCode run_generate(const Arguments& arguments);
ExitCode run_chat(const Arguments& arguments);
ExitCode run_batch(const Arguments& arguments);
ExitCode run_perplexity(const Arguments& arguments);
ExitCode run_tokenize(const Arguments& arguments);
ExitCode run_detokenize(const Arguments& arguments);
ExitCode run_template(const Arguments& arguments);
ExitCode run_inspect(const Arguments& arguments);
ExitCode run_bench(const Arguments& arguments);
ExitCode run_bench_ops(const Arguments& arguments);         // "bench ops", reached through run_bench
ExitCode run_bench_throughput(const Arguments& arguments);  // "bench throughput", likewise
ExitCode run_profile(const Arguments& arguments);
ExitCode run_plan(const Arguments& arguments);
ExitCode run_doctor(const Arguments& arguments);
ExitCode run_completion(const Arguments& arguments);
ExitCode run_version(const Arguments& arguments);

struct Command {
  std::string_view name;
  std::string_view summary;
  ExitCode (*run)(const Arguments&);
};
std::span<const Command> commands();

// Commands of two words, such as "bench ops". The first word's command passes the call on; this table is for those who list them all.
std::span<const Command> nested_commands();

// Throws UsageError that names the nearest command.
const Command& find_command(std::string_view name);

// The command line as a shell would take it again: "bolide bench -p 512 --n-prompt-gen '1 2'".
std::string command_text(std::string_view command, const Arguments& arguments);

// What `bolide --help` prints.
std::string program_help();

// What `bolide --version` prints.
std::string version_text();

}  // namespace bolide
