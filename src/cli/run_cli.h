// The program from arguments to exit code.
#pragma once

namespace bolide {

// Finds the command, runs it and turns whatever it throws into one `error: ...` line on standard error and an exit code of core/error.h.
int run_cli(int argc, char** argv);

}  // namespace bolide
