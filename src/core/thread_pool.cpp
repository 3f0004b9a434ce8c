#include "core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
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
  // As programs with OpenMP do; a list is for nested levels, whose first one counts.
  if (const char* wanted = std::getenv("OMP_NUM_THREADS")) {
    const long threads = std::strtol(wanted, nullptr, 10);
    if (threads > 0 && threads < budget.threads) budget = {static_cast<int>(threads), fmt::format("OMP_NUM_THREADS={}", threads)};
  }
  return budget;
}

struct ThreadPool::State {
  static constexpr uint64_t kClosed = uint64_t{1} << 31;
  static constexpr uint64_t kInside = kClosed - 1;

  // All that a worker needs to join a job, on one cache line: joining costs one transfer between cores.
  struct alignas(64) Desk {
    // The job's number << 32 | closed | workers inside, the caller not counted. A worker that comes when the work is done finds the gate
    // closed and goes back to waiting, so that a thread which the system has put aside delays nobody.
    std::atomic<uint64_t> gate{kClosed};
    // Valid while the gate is open or somebody is inside; one of the two.
    const std::function<void(int)>* body = nullptr;
    const std::function<void(int64_t, int64_t, int)>* ranges = nullptr;
    int64_t count = 0, grain = 1;
  };

  struct alignas(64) Share {
    // The worker's share of a parallel_for: grains [begin, end) as begin << 32 | end. The owner takes from the front, so that its memory
    // streams stay long and contiguous; thieves take from the back.
    std::atomic<uint64_t> range{0};
  };
  Desk desk;
  int size;
  std::chrono::microseconds spin;
  std::vector<std::thread> threads;
  std::vector<Share> shares;
  bool stop = false;
  std::mutex error_mutex;
  std::exception_ptr error;
  // Sleeping: whoever is about to sleep says so, looks once more, and sleeps until the number changes; whoever has news for a sleeper
  // writes it, looks for sleepers, and changes the number. All four steps are sequentially consistent, so one of the two sees the other.
  alignas(64) std::atomic<uint32_t> sleepers{0};
  std::atomic<uint32_t> wakes{0};
  std::atomic<uint32_t> caller_sleeps{0};
  std::atomic<uint32_t> caller_wakes{0};
  std::atomic<uint32_t> awaited{0};  // bodies of run() that have not finished

  explicit State(int n)
      : size(n),
        spin(n <= static_cast<int>(affinity_cpus().size()) ? kSpinTime : std::chrono::microseconds(0)),
        shares(static_cast<size_t>(n)) {}

  // Whether `done` comes true within `spin`.
  template <class Done>
  bool watch(const Done& done) const {
    if (done()) return true;
    if (spin.count() == 0) return false;
    const auto end = Clock::now() + spin;
    do {
      for (int i = 0; i < 64; ++i) {
        if (done()) return true;
        relax();
      }
    } while (Clock::now() < end);
    return false;
  }

  template <class Done>
  void wait_for(std::atomic<uint32_t>& sleeping, const std::atomic<uint32_t>& number, const Done& done) {
    while (!watch(done)) {
      sleeping.fetch_add(1);
      const uint32_t old = number.load();
      if (!done()) number.wait(old);
      sleeping.fetch_sub(1);
    }
  }

  static void wake(const std::atomic<uint32_t>& sleeping, std::atomic<uint32_t>& number) {
    if (sleeping.load() == 0) return;
    number.fetch_add(1);
    number.notify_all();
  }

  void call(int worker) {
    try {
      desk.body ? (*desk.body)(worker) : take_ranges(worker);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(error_mutex);
      if (!error) error = std::current_exception();
    }
  }

  // Joins job `number`, unless it is over.
  bool enter(uint32_t number) {
    uint64_t now = desk.gate.load(std::memory_order_acquire);
    while (now >> 32 == number && !(now & kClosed)) {
      if (desk.gate.compare_exchange_weak(now, now + 1)) return true;
    }
    return false;
  }

  void work(int worker) {
    for (uint32_t seen = 0;;) {
      wait_for(sleepers, wakes, [&] { return desk.gate.load() >> 32 != seen; });
      seen = static_cast<uint32_t>(desk.gate.load(std::memory_order_acquire) >> 32);
      if (stop) return;
      if (!enter(seen)) continue;
      call(worker);
      if (desk.body && awaited.fetch_sub(1) == 1) wake(caller_sleeps, caller_wakes);
      const uint64_t before = desk.gate.fetch_sub(1);
      if ((before & kClosed) && (before & kInside) == 1) wake(caller_sleeps, caller_wakes);
    }
  }

  void open_gate(uint64_t closed) {
    desk.gate.store(((desk.gate.load(std::memory_order_relaxed) >> 32) + 1) << 32 | closed);
    wake(sleepers, wakes);
  }

  // Opens the gate for the work on the desk, takes part in it, and closes the gate behind whoever came: behind everybody if it is a body
  // that all must run.
  void start() {
    awaited.store(desk.body ? static_cast<uint32_t>(size - 1) : 0, std::memory_order_relaxed);
    open_gate(0);
    call(0);
    if (desk.body) wait_for(caller_sleeps, caller_wakes, [this] { return awaited.load() == 0; });
    if (desk.gate.fetch_or(kClosed) & kInside) {
      wait_for(caller_sleeps, caller_wakes, [this] { return (desk.gate.load() & kInside) == 0; });
    }
    desk.body = nullptr;
    desk.ranges = nullptr;
    if (error) std::rethrow_exception(std::exchange(error, nullptr));
  }

  void finish() {
    stop = true;
    open_gate(kClosed);
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

  void take_ranges(int worker) {
    const int64_t count = desk.count, grain = desk.grain;
    for (int64_t g; (g = take(worker)) >= 0;) (*desk.ranges)(g * grain, std::min(count, (g + 1) * grain), worker);
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
  state_->desk.body = &body;
  state_->start();
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
  s.desk.ranges = &body;
  s.desk.count = count;
  s.desk.grain = grain;
  s.start();
}

}  // namespace bolide
