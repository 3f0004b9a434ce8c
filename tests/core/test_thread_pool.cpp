#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>
#include <vector>

#include "catch.h"
#include "core/cpu_limits.h"
#include "core/error.h"
#include "core/thread_pool.h"

using namespace bolide;
namespace fs = std::filesystem;

namespace {

// A folder of made-up kernel files, removed at the end.
class FakeRoot {
 public:
  FakeRoot() : path_(fs::temp_directory_path() / ("bolide-cgroup-" + std::to_string(getpid()) + "-" + std::to_string(next_++))) {
    fs::create_directories(path_);
  }
  ~FakeRoot() { fs::remove_all(path_); }
  void write(const std::string& file, const std::string& text) const {
    fs::create_directories((path_ / file).parent_path());
    std::ofstream(path_ / file) << text;
  }
  const fs::path& path() const { return path_; }

 private:
  static inline int next_ = 0;
  fs::path path_;
};

const std::string kVersion2Mount = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
const std::string kVersion1Mounts =
    "30 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 23 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";

}  // namespace

TEST_CASE("run calls every worker once, with the caller among them") {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    CHECK(pool.size() == threads);
    for (int repeat = 0; repeat < 50; ++repeat) {
      std::vector<std::atomic<int>> calls(static_cast<size_t>(threads));
      const auto caller = std::this_thread::get_id();
      std::atomic<bool> caller_is_first{false};
      pool.run([&](int worker) {
        calls[static_cast<size_t>(worker)]++;
        if (worker == 0) caller_is_first = std::this_thread::get_id() == caller;
      });
      for (const auto& count : calls) REQUIRE(count == 1);
      REQUIRE(caller_is_first);
    }
  }
}

TEST_CASE("parallel_for covers every index once, in ranges of at most the grain") {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (const int64_t count : {0, 1, 2, 7, 64, 1001}) {
      for (const int64_t grain : {-1, 1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
        std::atomic<bool> sizes_right{true};
        pool.parallel_for(count, grain, [&](int64_t begin, int64_t end, int worker) {
          if (begin >= end || end - begin > std::max<int64_t>(grain, 1) || worker < 0 || worker >= threads) sizes_right = false;
          for (int64_t i = begin; i < end; ++i) seen[static_cast<size_t>(i)]++;
        });
        REQUIRE(sizes_right);
        for (const auto& times : seen) REQUIRE(times == 1);
      }
    }
  }
}

TEST_CASE("a worker that has nothing left takes over the work of a slow one") {
  ThreadPool pool(2);
  std::atomic<int> done[2] = {0, 0};
  pool.parallel_for(40, 1, [&](int64_t begin, int64_t, int worker) {
    // The first half belongs to worker 0, whose first piece takes until all others are done.
    if (begin == 0) {
      const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (done[0] + done[1] < 39 && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
    }
    done[worker]++;
  });
  CHECK(done[0] + done[1] == 40);
  CHECK((done[0] == 1 || done[1] == 1));
}

TEST_CASE("an exception of a worker reaches the caller, and the pool goes on") {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    for (int thrower = 0; thrower < threads; ++thrower) {
      CHECK_THROWS_AS(pool.run([&](int worker) {
        if (worker == thrower) throw std::domain_error("broken");
      }),
                      std::domain_error);
      std::atomic<int> calls{0};
      pool.run([&](int) { calls++; });
      CHECK(calls == threads);
    }
  }
}

TEST_CASE("workers that have gone to sleep wake up for the next job") {
  ThreadPool pool(3);
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<int> calls{0};
    pool.run([&](int) { calls++; });
    REQUIRE(calls == 3);
  }
}

TEST_CASE("a pool refuses a size that makes no sense") {
  CHECK_THROWS_AS(ThreadPool(0), UsageError);
  CHECK_THROWS_AS(ThreadPool(-3), UsageError);
  CHECK_THROWS_AS(ThreadPool(1 << 20), UsageError);
}

TEST_CASE("the default number of threads fits the affinity mask and has a reason") {
  const ThreadBudget budget = default_threads();
  CHECK(budget.threads >= 1);
  CHECK(budget.threads <= static_cast<int>(affinity_cpus().size()));
  CHECK_FALSE(budget.reason.empty());
}

TEST_CASE("cgroup version 2: the smallest quota along the path counts") {
  const FakeRoot root;
  root.write("proc/self/cgroup", "0::/user.slice/job.scope\n");
  root.write("proc/self/mountinfo", kVersion2Mount);
  CHECK_FALSE(cgroup_cpu_quota(root.path()));
  root.write("sys/fs/cgroup/user.slice/job.scope/cpu.max", "max 100000\n");
  CHECK_FALSE(cgroup_cpu_quota(root.path()));
  root.write("sys/fs/cgroup/user.slice/cpu.max", "250000 100000\n");
  CHECK(cgroup_cpu_quota(root.path()).value() == Approx(2.5));
  root.write("sys/fs/cgroup/user.slice/job.scope/cpu.max", "800000 100000\n");
  CHECK(cgroup_cpu_quota(root.path()).value() == Approx(2.5));
  root.write("sys/fs/cgroup/user.slice/job.scope/cpu.max", "50000 100000\n");
  CHECK(cgroup_cpu_quota(root.path()).value() == Approx(0.5));
}

TEST_CASE("cgroup version 1: the cpu controller's quota counts, others do not") {
  const FakeRoot root;
  root.write("proc/self/cgroup", "4:memory:/job\n3:cpu,cpuacct:/job\n0::/\n");
  root.write("proc/self/mountinfo", kVersion1Mounts);
  root.write("sys/fs/cgroup/memory/job/cpu.cfs_quota_us", "1000\n");
  root.write("sys/fs/cgroup/memory/job/cpu.cfs_period_us", "100000\n");
  CHECK_FALSE(cgroup_cpu_quota(root.path()));
  root.write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
  root.write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  CHECK_FALSE(cgroup_cpu_quota(root.path()));
  root.write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "400000\n");
  CHECK(cgroup_cpu_quota(root.path()).value() == Approx(4.0));
}

TEST_CASE("a container without a cgroup namespace sees its own folder at the mount point") {
  const FakeRoot root;
  root.write("proc/self/cgroup", "0::/docker/0123abcd/inner\n");
  root.write("proc/self/mountinfo", "31 23 0:28 /docker/0123abcd /sys/fs/cgroup\\040here ro - cgroup2 cgroup rw\n");
  root.write("sys/fs/cgroup here/cpu.max", "300000 100000\n");
  CHECK(cgroup_cpu_quota(root.path()).value() == Approx(3.0));
  root.write("sys/fs/cgroup here/inner/cpu.max", "150000 100000\n");
  CHECK(cgroup_cpu_quota(root.path()).value() == Approx(1.5));
}

TEST_CASE("a cgroup path that leads out of the mount is not followed") {
  const FakeRoot root;
  root.write("proc/self/cgroup", "0::/../../elsewhere\n");
  root.write("proc/self/mountinfo", kVersion2Mount);
  root.write("sys/elsewhere/cpu.max", "100000 100000\n");
  CHECK_FALSE(cgroup_cpu_quota(root.path()));
  root.write("sys/fs/cgroup/cpu.max", "200000 100000\n");
  CHECK(cgroup_cpu_quota(root.path()).value() == Approx(2.0));
}

TEST_CASE("malformed cgroup files mean no limit") {
  const FakeRoot root;
  CHECK_FALSE(cgroup_cpu_quota(root.path()));
  root.write("proc/self/cgroup", "nonsense\n0::/a\n:::::\n");
  root.write("proc/self/mountinfo", "x\n- - -\n1 2 3 / /sys/fs/cgroup rw -\n" + kVersion2Mount);
  for (const std::string text : {"", "max", "abc def\n", "-5 100000\n", "100000 0\n", "100000\n", "nan nan\n"}) {
    root.write("sys/fs/cgroup/a/cpu.max", text);
    INFO(text);
    CHECK_FALSE(cgroup_cpu_quota(root.path()));
  }
}

TEST_CASE("cgroup memory: the least of limit less use along the path, inactive page cache not counted as used") {
  const FakeRoot root;
  root.write("proc/self/cgroup", "0::/user.slice/job.scope\n");
  root.write("proc/self/mountinfo", kVersion2Mount);
  CHECK_FALSE(cgroup_memory_left(root.path()));
  const std::string job = "sys/fs/cgroup/user.slice/job.scope/", slice = "sys/fs/cgroup/user.slice/";
  root.write(job + "memory.max", "max\n");
  root.write(job + "memory.current", "3000\n");
  CHECK_FALSE(cgroup_memory_left(root.path()));
  root.write(job + "memory.max", "10000\n");
  CHECK(cgroup_memory_left(root.path()) == 7000u);
  root.write(job + "memory.stat", "anon 1000\nfile 2000\ninactive_file 1500\n");
  CHECK(cgroup_memory_left(root.path()) == 8500u);
  root.write(slice + "memory.max", "9000\n");
  root.write(slice + "memory.current", "8000\n");
  CHECK(cgroup_memory_left(root.path()) == 1000u);
  root.write(slice + "memory.current", "9500\n");  // over its limit
  CHECK(cgroup_memory_left(root.path()) == 0u);
  for (const std::string text : {"", "abc\n", "-1\n"}) {
    root.write(slice + "memory.max", text);
    INFO(text);
    CHECK(cgroup_memory_left(root.path()) == 8500u);
  }
}

TEST_CASE("cgroup memory, version 1: the memory controller counts, and its huge number means no limit") {
  const FakeRoot root;
  root.write("proc/self/cgroup", "4:memory:/job\n3:cpu,cpuacct:/job\n0::/\n");
  root.write("proc/self/mountinfo", kVersion1Mounts);
  root.write("sys/fs/cgroup/cpu,cpuacct/job/memory.limit_in_bytes", "5\n");
  root.write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712\n");
  root.write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "4000\n");
  CHECK_FALSE(cgroup_memory_left(root.path()));
  root.write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "10000\n");
  root.write("sys/fs/cgroup/memory/job/memory.stat", "inactive_file 9\ntotal_inactive_file 500\n");
  CHECK(cgroup_memory_left(root.path()) == 6500u);
}

TEST_CASE("SMT siblings count as one core") {
  const FakeRoot root;
  for (const int cpu : {0, 1, 2, 3}) {
    root.write("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list", cpu % 2 == 0 ? "0,2\n" : "1,3\n");
  }
  CHECK(physical_cores(root.path(), {0, 1, 2, 3}) == 2);
  CHECK(physical_cores(root.path(), {0, 2}) == 1);
  CHECK(physical_cores(root.path(), {1, 2}) == 2);
  CHECK(physical_cores(root.path(), {8, 9}) == 2);  // no topology known
}
