// How many CPUs and how much memory this process may really use: cgroup limits and physical cores, read from the kernel's files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace bolide {

// The smallest CPU quota (in CPUs) set on the process's cgroup or any of its ancestors that are visible; nothing if there is no limit.
// Reads proc/self/cgroup and proc/self/mountinfo below `root` ("/" in production), then cpu.max (version 2) or cpu.cfs_quota_us and
// cpu.cfs_period_us (version 1) from the cgroup's folder up to the mount point. Missing or malformed files mean no limit.
std::optional<double> cgroup_cpu_quota(const std::filesystem::path& root);

// Bytes that this process may still take: the least, over its cgroup and those above it, of limit less use, where page cache that the
// kernel gives up first (inactive_file) does not count as used. Nothing if there is no limit. Reads memory.max, memory.current and
// memory.stat (version 2), or memory.limit_in_bytes, memory.usage_in_bytes and memory.stat (version 1), found as above.
std::optional<uint64_t> cgroup_memory_left(const std::filesystem::path& root);

// Physical cores behind these CPU numbers: SMT siblings count once. A CPU without topology files counts as a core of its own.
int physical_cores(const std::filesystem::path& root, const std::vector<int>& cpus);

// CPU numbers in the calling thread's affinity mask; {0} if the system does not tell.
std::vector<int> affinity_cpus();

}  // namespace bolide
