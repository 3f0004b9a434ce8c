// A fixed team of threads for the CPU backend, and the honest default for its size.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

namespace bolide {

struct ThreadBudget {
  int threads;         // min(affinity mask, floor(cgroup quota) but at least 1, physical cores, $OMP_NUM_THREADS)
  std::string reason;  // "2 of 2 in the affinity mask", "cgroup quota 4.0 CPUs", "8 physical cores"
};
// Reads sched_getaffinity, cgroup v2 cpu.max / v1 cpu.cfs_quota_us along the process's path, and the core topology.
ThreadBudget default_threads();

// The calling thread takes part, so a pool of n starts n - 1 threads. Workers spin briefly between jobs and then sleep,
// so that an idle program costs nothing. One job at a time; run() must not be called from inside a job.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  // Calls body(worker) once on every worker, 0 <= worker < size(), and returns when all have finished.
  // The first exception thrown by a body is rethrown here.
  void run(const std::function<void(int worker)>& body);

  // Splits [0, count) into ranges of at most `grain`, taken by whoever is free: body(begin, end, worker).
  void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t begin, int64_t end, int worker)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bolide
