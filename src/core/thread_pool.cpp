#include "core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/cpu_limits.h"
#include "core/error.h"

namespace bolide {
namespace {

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

using Clock = std::chrono::steady_clock;

// Long enough to bridge the host's work between two steps of a decode, short enough not to be seen in an idle program.
constexpr std::chrono::microseconds kSpinTime{200};

// Waits until `value` differs from `old`: first by looking at it, for at most `spin`, then asleep in the kernel.
template <class T>
void wait_for_change(const std::atomic<T>& value, T old, std::chrono::microseconds spin) {
  if (spin.count() > 0) {
    const auto end = Clock::now() + spin;
    do {
      for (int i = 0; i < 64; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        relax();
      }
    } while (Clock::now() < end);
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadBudget default_threads() {
  const std::vector<int> cpus = affinity_cpus();
  const int allowed = static_cast<int>(cpus.size());
  const int cores = std::max(1, physical_cores("/", cpus));
  ThreadBudget budget{allowed, fmt::format("{} in the affinity mask", allowed)};
  if (cores < budget.threads) budget = {cores, fmt::format("{} physical cores", cores)};
  if (const auto quota = cgroup_cpu_quota("/"); quota && *quota < budget.threads) {
    budget = {std::max(1, static_cast<int>(std::floor(*quota))), fmt::format("cgroup quota {:.1f} CPUs", *quota)};
  }
  return budget;
}

struct ThreadPool::State {
  static constexpr uint64_t kClosed = uint64_t{1} << 31;
  static constexpr uint64_t kInside = kClosed - 1;

  // A worker's share of a parallel_for: grains [begin, end) as begin << 32 | end. The owner takes from the front, so that its memory
  // streams stay long and contiguous; thieves take from the back.
  struct alignas(64) Share {
    std::atomic<uint64_t> range{0};
  };

  int size;
  std::chrono::microseconds spin;
  std::vector<std::thread> threads;
  std::vector<Share> shares;
  const std::function<void(int)>* body = nullptr;  // valid while the gate is open or somebody is inside
  bool stop = false;
  std::mutex error_mutex;
  std::exception_ptr error;
  alignas(64) std::atomic<uint32_t> job{0};  // a new value is a new job
  // Who may still join the job: its number << 32 | closed | workers inside, the caller not counted. A worker that comes when the work is
  // done finds the gate closed and goes back to waiting, so that a thread which the system has put aside delays nobody.
  alignas(64) std::atomic<uint64_t> gate{kClosed};
  alignas(64) std::atomic<uint32_t> departures{0};  // changes when the last worker leaves a closed gate, and with every body of run()
  std::atomic<uint32_t> awaited{0};                 // bodies of run() that have not finished

  explicit State(int n)
      : size(n),
        spin(n <= static_cast<int>(affinity_cpus().size()) ? kSpinTime : std::chrono::microseconds(0)),
        shares(static_cast<size_t>(n)) {}

  void call(int worker) {
    try {
      (*body)(worker);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(error_mutex);
      if (!error) error = std::current_exception();
    }
  }

  // Joins job `number`, unless it is over.
  bool enter(uint32_t number) {
    uint64_t now = gate.load(std::memory_order_acquire);
    while (now >> 32 == number && !(now & kClosed)) {
      if (gate.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel, std::memory_order_acquire)) return true;
    }
    return false;
  }

  void announce_departure() {
    departures.fetch_add(1, std::memory_order_release);
    departures.notify_one();
  }

  void work(int worker) {
    for (uint32_t seen = 0;;) {
      wait_for_change(job, seen, spin);
      seen = job.load(std::memory_order_acquire);
      if (stop) return;
      if (!enter(seen)) continue;
      call(worker);
      if (awaited.load(std::memory_order_relaxed) > 0 && awaited.fetch_sub(1, std::memory_order_acq_rel) == 1) announce_departure();
      const uint64_t before = gate.fetch_sub(1, std::memory_order_acq_rel);
      if ((before & kClosed) && (before & kInside) == 1) announce_departure();
    }
  }

  template <class Done>
  void wait_until(const Done& done) {
    for (;;) {
      const uint32_t old = departures.load(std::memory_order_acquire);
      if (done()) return;
      wait_for_change(departures, old, spin);
    }
  }

  // Opens the gate for `work`, takes part in it, and closes the gate behind whoever came: behind everybody if `all` must come.
  void start(const std::function<void(int)>& work, bool all) {
    body = &work;
    awaited.store(all ? static_cast<uint32_t>(size - 1) : 0, std::memory_order_relaxed);
    const uint32_t number = job.load(std::memory_order_relaxed) + 1;
    gate.store(uint64_t{number} << 32, std::memory_order_release);
    job.store(number, std::memory_order_release);
    job.notify_all();
    call(0);
    if (all) wait_until([this] { return awaited.load(std::memory_order_acquire) == 0; });
    gate.fetch_or(kClosed, std::memory_order_acq_rel);
    wait_until([this] { return (gate.load(std::memory_order_acquire) & kInside) == 0; });
    body = nullptr;
    if (error) std::rethrow_exception(std::exchange(error, nullptr));
  }

  void finish() {
    stop = true;
    job.fetch_add(1, std::memory_order_release);
    job.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  // One grain of the worker's own share, else of another's; -1 when all are taken.
  int64_t take(int worker) {
    for (int i = 0; i < size; ++i) {
      const int victim = (worker + i) % size;
      std::atomic<uint64_t>& range = shares[static_cast<size_t>(victim)].range;
      uint64_t now = range.load(std::memory_order_relaxed);
      for (;;) {
        const uint64_t begin = now >> 32, end = now & 0xffffffffu;
        if (begin >= end) break;
        const uint64_t rest = i == 0 ? (begin + 1) << 32 | end : begin << 32 | (end - 1);
        if (range.compare_exchange_weak(now, rest, std::memory_order_relaxed)) return static_cast<int64_t>(i == 0 ? begin : end - 1);
      }
    }
    return -1;
  }
};

ThreadPool::ThreadPool(int threads) {
  if (threads < 1 || threads > 4096) throw UsageError(fmt::format("{} threads asked for; use 1 to 4096", threads));
  state_ = std::make_unique<State>(threads);
  try {
    for (int worker = 1; worker < threads; ++worker) state_->threads.emplace_back([state = state_.get(), worker] { state->work(worker); });
  } catch (const std::system_error& failure) {
    const size_t started = state_->threads.size();
    state_->finish();
    throw Error(fmt::format("cannot start thread {} of {}: {}. Use fewer --threads", started + 2, threads, failure.what()));
  }
}

ThreadPool::~ThreadPool() { state_->finish(); }

int ThreadPool::size() const { return state_->size; }

void ThreadPool::run(const std::function<void(int worker)>& body) {
  if (state_->size == 1) return body(0);
  state_->start(body, true);
}

void ThreadPool::parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t begin, int64_t end, int worker)>& body) {
  State& s = *state_;
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  grain = std::max(grain, count / 0x7fffffff + 1);  // grain numbers fit 31 bits
  const int64_t grains = (count - 1) / grain + 1;
  if (s.size == 1 || grains == 1) {
    for (int64_t g = 0; g < grains; ++g) body(g * grain, std::min(count, (g + 1) * grain), 0);
    return;
  }
  for (int64_t w = 0; w < s.size; ++w) {
    const uint64_t begin = static_cast<uint64_t>(grains * w / s.size), end = static_cast<uint64_t>(grains * (w + 1) / s.size);
    s.shares[static_cast<size_t>(w)].range.store(begin << 32 | end, std::memory_order_relaxed);
  }
  const std::function<void(int)> share = [&](int worker) {
    for (int64_t g; (g = s.take(worker)) >= 0;) body(g * grain, std::min(count, (g + 1) * grain), worker);
  };
  s.start(share, false);
}

}  // namespace bolide
