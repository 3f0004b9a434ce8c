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

// While one exists, SIGINT, SIGTERM, SIGTSTP and SIGWINCH are queued for a loop that also waits for a person's input. One at a time.
class SignalQueue {
 public:
  SignalQueue();
  ~SignalQueue();
  SignalQueue(const SignalQueue&) = delete;
  SignalQueue& operator=(const SignalQueue&) = delete;
  // Readable while a signal waits.
  int fd() const { return read_end_; }
  // The oldest, 0 when there is none.
  int next();
  // While it is set, a SIGINT or SIGTERM that finds another one still waiting ends the program at once: nobody may be listening.
  void second_ends(bool on);

 private:
  int read_end_ = -1;
};

}  // namespace bolide
