// bolide version, bolide --version, and --version of every command: the commit and what was compiled in.
#include "cli/command.h"
#include "cli/flags.h"
#include "cli/line_input.h"
#include "cli/streams.h"
#include "core/build_info.h"
#include "exec/backend_choice.h"

namespace bolide {
namespace {

constexpr std::string_view kHelp = R"(Usage: bolide version

Prints the version, commit and compiler of this binary, and a line for each backend it holds.

  -h, --help      this text

Example
  bolide version
)";

}  // namespace

std::string version_text() {
  const BuildInfo build = build_info();
  std::string text = fmt::format("bolide {} (commit {}, {}, {})\n", build.version, build.commit, build.compiler, build.build_type);
  for (const std::string& line : backend_descriptions()) text += line + "\n";
  return text + fmt::format("line editing in chat: {}\n", line_editing_description());
}

ExitCode run_version(const Arguments& arguments) {
  Flags flags("version", kHelp);
  if (!flags.parse(arguments)) return ExitCode::ok;
  ResultStream out;
  out.write(version_text());
  out.finish();
  return ExitCode::ok;
}

}  // namespace bolide
