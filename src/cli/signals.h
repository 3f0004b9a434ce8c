// Ctrl-C, SIGTERM and a reader that has gone away.
#pragma once

#include <optional>

#include "core/error.h"

namespace bolide {

// SIGINT and SIGTERM end the program at once with 130 and 143; SIGPIPE and SIGXFSZ (a file larger than
// the process may write) are ignored, so that writes report the error instead.
// SIGBUS in a mapped file (somebody cut it short) ends it with an error that names the file.
// A signal that the parent had ignored (nohup, background jobs) stays ignored.
void install_signal_handlers();

// While one exists, the first signal only leaves a note that the command's loop finds, so that it can finish its step, write out
// what there is and print its statistics. The second ends the program at once.
class GracefulStop {
 public:
  GracefulStop();
  ~GracefulStop();
  GracefulStop(const GracefulStop&) = delete;
  GracefulStop& operator=(const GracefulStop&) = delete;
  // interrupted or terminated, once a signal has come.
  std::optional<ExitCode> requested() const;
};

}  // namespace bolide
