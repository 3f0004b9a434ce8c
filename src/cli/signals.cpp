#include "cli/signals.h"

#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "io/mapped_file.h"

namespace bolide {
namespace {

std::atomic<int> received{0};
std::atomic<bool> graceful{false};
std::atomic<int> queue_end{-1};      // where a SignalQueue wants to hear of signals
std::atomic<int> waiting_to_end{0};  // SIGINT and SIGTERM in the queue
std::atomic<bool> second_is_last{false};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free, "used inside a signal handler");

// timeout(1) sends SIGTERM to the program and to its process group, which the program belongs to: twice within a moment is once.
constexpr int64_t kOneRequestMs = 200;
std::atomic<int64_t> first_at{0};
int64_t now_ms() {  // clock_gettime may be called in a signal handler
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

int exit_code_of(int signal_number) { return 128 + signal_number; }

void enqueue(int signal_number) {
  const int saved = errno;
  const auto byte = static_cast<char>(signal_number);
  [[maybe_unused]] const ssize_t ignored = write(queue_end.load(), &byte, 1);  // a full queue holds enough of them
  errno = saved;
}

void on_signal(int signal_number) {
  if (queue_end.load() >= 0) {
    if (waiting_to_end.fetch_add(1) > 0 && second_is_last.load()) _exit(exit_code_of(signal_number));
    return enqueue(signal_number);
  }
  if (!graceful.load()) _exit(exit_code_of(signal_number));
  if (received.load() == 0) first_at = now_ms();
  if (received.exchange(signal_number) == 0) return;
  if (signal_number != SIGTERM || now_ms() - first_at.load() > kOneRequestMs) {
    _exit(exit_code_of(signal_number));
  }
}

void handle(int signal_number) {
  struct sigaction old {};
  if (sigaction(signal_number, nullptr, &old) == 0 && old.sa_handler == SIG_IGN) return;
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(signal_number, &action, nullptr);
}

void write_text(const char* text) {
  size_t left = strlen(text);
  while (left > 0) {
    const ssize_t written = write(STDERR_FILENO, text, left);
    if (written <= 0) return;
    text += written;
    left -= static_cast<size_t>(written);
  }
}

// A page of a mapped file that cannot be read. Nothing can go on from here, and only what is safe in a signal handler may say so.
void on_bus_error(int, siginfo_t* info, void*) {
  const char* path = mapped_path_at(info->si_addr);
  if (!path) {
    signal(SIGBUS, SIG_DFL);  // not ours to explain: the access is repeated and ends the program
    return;
  }
  write_text("error: cannot read ");
  write_text(path);
  write_text(" any more: it was cut short or its disk failed while it was in use. Get a new copy, and leave it alone while it is loaded\n");
  _exit(static_cast<int>(ExitCode::model));
}

}  // namespace

void install_signal_handlers() {
  handle(SIGINT);
  handle(SIGTERM);
  struct sigaction bus {};
  bus.sa_sigaction = on_bus_error;
  bus.sa_flags = SA_SIGINFO;
  sigemptyset(&bus.sa_mask);
  sigaction(SIGBUS, &bus, nullptr);
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, nullptr);
  sigaction(SIGXFSZ, &ignore, nullptr);
}

namespace {

constexpr std::array<int, 2> kTerminalSignals{SIGTSTP, SIGWINCH};
std::array<struct sigaction, 2> before_queue;

}  // namespace

SignalQueue::SignalQueue() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) throw Error(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  read_end_ = ends[0];
  waiting_to_end = 0;
  queue_end = ends[1];
  struct sigaction action {};
  action.sa_handler = enqueue;
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < kTerminalSignals.size(); ++i) {
    sigaction(kTerminalSignals[i], nullptr, &before_queue[i]);
    if (before_queue[i].sa_handler != SIG_IGN) sigaction(kTerminalSignals[i], &action, nullptr);
  }
}

SignalQueue::~SignalQueue() {
  for (size_t i = 0; i < kTerminalSignals.size(); ++i) sigaction(kTerminalSignals[i], &before_queue[i], nullptr);
  close(queue_end.exchange(-1));
  close(read_end_);
}

int SignalQueue::next() {
  char byte = 0;
  if (read(read_end_, &byte, 1) != 1) return 0;
  if (byte == SIGINT || byte == SIGTERM) --waiting_to_end;
  return byte;
}

void SignalQueue::second_ends(bool on) { second_is_last = on; }

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
