#include "cli/run_cli.h"

#include <exception>
#include <new>

#include "cli/command.h"
#include "cli/common_options.h"
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
  if (first == "--list-devices") {
    DeviceOptions devices;
    devices.list = true;
    devices.listed();
    return ExitCode::ok;
  }
  if (first == "help") {
    if (rest.empty()) return print_and_finish(program_help());
    const Command& command = find_command(rest.front());
    rest.erase(rest.begin());
    rest.emplace_back("--help");  // "help bench ops" is "bench ops --help"
    return command.run(rest);
  }
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
