#include "cli/run_cli.h"

#include <exception>
#include <new>

#include "cli/command.h"
#include "cli/log.h"
#include "cli/signals.h"
#include "cli/streams.h"

namespace bolide {
namespace {

ExitCode print_and_finish(const std::string& text) {
  ResultStream out;
  out.write(text);
  out.finish();
  return ExitCode::ok;
}

ExitCode dispatch(const Arguments& arguments) {
  if (arguments.empty()) throw UsageError("no command. 'bolide --help' lists them");
  const std::string& first = arguments.front();
  Arguments rest(arguments.begin() + 1, arguments.end());
  if (first == "--help" || first == "-h") return print_and_finish(program_help());
  if (first == "--version") return run_version({});
  if (first == "help") return rest.empty() ? print_and_finish(program_help()) : find_command(rest.front()).run({"--help"});
  return find_command(first).run(rest);
}

}  // namespace

int run_cli(int argc, char** argv) {
  const bool output_open = secure_standard_streams();
  install_signal_handlers();
  ExitCode code = ExitCode::failed;
  try {
    start_logging({});
    if (!output_open) throw Error("standard output is closed, so there is nowhere to write results to. Redirect it to a file or /dev/null");
    code = dispatch(Arguments(argv + 1, argv + argc));
  } catch (const Error& error) {
    report_error(error.what());
    code = error.code();
  } catch (const std::bad_alloc&) {
    report_error("out of memory. A smaller --ctx-size or model may fit");
    code = ExitCode::memory;
  } catch (const std::exception& error) {
    report_error(error.what());
  }
  return static_cast<int>(code);
}

}  // namespace bolide
