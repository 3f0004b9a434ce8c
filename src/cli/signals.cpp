#include "cli/signals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

namespace bolide {
namespace {

std::atomic<int> received{0};
std::atomic<bool> graceful{false};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free, "used inside a signal handler");

int exit_code_of(int signal_number) { return 128 + signal_number; }

void on_signal(int signal_number) {
  if (!graceful.load() || received.exchange(signal_number) != 0) _exit(exit_code_of(signal_number));
}

void handle(int signal_number) {
  struct sigaction old {};
  if (sigaction(signal_number, nullptr, &old) == 0 && old.sa_handler == SIG_IGN) return;
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(signal_number, &action, nullptr);
}

}  // namespace

void install_signal_handlers() {
  handle(SIGINT);
  handle(SIGTERM);
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, nullptr);
}

GracefulStop::GracefulStop() {
  received = 0;
  graceful = true;
}
GracefulStop::~GracefulStop() { graceful = false; }

std::optional<ExitCode> GracefulStop::requested() const {
  const int signal_number = received.load();
  if (signal_number == 0) return std::nullopt;
  return static_cast<ExitCode>(exit_code_of(signal_number));
}

}  // namespace bolide
