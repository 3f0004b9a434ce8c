// How many CPUs this process may really use: cgroup quotas and physical cores, read from the kernel's files.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

namespace bolide {

// The smallest CPU quota (in CPUs) set on the process's cgroup or any of its ancestors that are visible; nothing if there is no limit.
// Reads proc/self/cgroup and proc/self/mountinfo below `root` ("/" in production), then cpu.max (version 2) or cpu.cfs_quota_us and
// cpu.cfs_period_us (version 1) from the cgroup's folder up to the mount point. Missing or malformed files mean no limit.
std::optional<double> cgroup_cpu_quota(const std::filesystem::path& root);

// Physical cores behind these CPU numbers: SMT siblings count once. A CPU without topology files counts as a core of its own.
int physical_cores(const std::filesystem::path& root, const std::vector<int>& cpus);

// CPU numbers in the calling thread's affinity mask; {0} if the system does not tell.
std::vector<int> affinity_cpus();

}  // namespace bolide
