#include "core/cpu_limits.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <string_view>

namespace bolide {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    parts.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

bool contains(const std::vector<std::string>& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

// mountinfo writes blanks and backslashes of a path as \040 and the like.
std::string decode_octal(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '7'; };
    if (text[i] == '\\' && digit(i + 1) && digit(i + 2) && digit(i + 3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

struct CgroupMount {
  std::string root;   // the part of the hierarchy that is mounted
  std::string point;  // where
  bool version2;
};

// The mount of cgroup version 2, or of version 1's `controller`.
std::optional<CgroupMount> find_mount(const fs::path& root, bool version2, std::string_view controller) {
  std::ifstream file(root / "proc/self/mountinfo");
  std::string line;
  while (std::getline(file, line)) {
    // id parent major:minor root mount-point options [tags...] - type source super-options
    const std::vector<std::string> fields = split(line, ' ');
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (fields.size() < 6 || fields.end() - dash < 4) continue;
    const std::string& type = dash[1];
    const bool wanted = version2 ? type == "cgroup2" : type == "cgroup" && contains(split(dash[3], ','), controller);
    if (wanted) return CgroupMount{decode_octal(fields[3]), decode_octal(fields[4]), version2};
  }
  return std::nullopt;
}

std::optional<double> read_quota(const fs::path& folder, bool version2) {
  double quota = -1, period = -1;
  if (version2) {
    std::ifstream file(folder / "cpu.max");
    std::string first;
    if (!(file >> first >> period) || first == "max") return std::nullopt;
    std::istringstream(first) >> quota;
  } else {
    std::ifstream(folder / "cpu.cfs_quota_us") >> quota;
    std::ifstream(folder / "cpu.cfs_period_us") >> period;
  }
  if (!(quota > 0) || !(period > 0)) return std::nullopt;
  return quota / period;
}

std::optional<uint64_t> read_number(const fs::path& file) {
  uint64_t number = 0;
  if (std::ifstream(file) >> number) return number;
  return std::nullopt;  // "max", or no such file
}

// The line "key number" of memory.stat.
uint64_t read_stat(const fs::path& folder, std::string_view key) {
  std::ifstream file(folder / "memory.stat");
  std::string name;
  for (uint64_t number = 0; file >> name >> number;) {
    if (name == key) return number;
  }
  return 0;
}

std::optional<uint64_t> read_memory_left(const fs::path& folder, bool version2) {
  const auto limit = read_number(folder / (version2 ? "memory.max" : "memory.limit_in_bytes"));
  const auto used = read_number(folder / (version2 ? "memory.current" : "memory.usage_in_bytes"));
  if (!limit || !used) return std::nullopt;
  if (*limit >= uint64_t{1} << 62) return std::nullopt;  // version 1 writes "no limit" as a number
  const uint64_t cache = std::min(read_stat(folder, version2 ? "inactive_file" : "total_inactive_file"), *used);
  return *limit - std::min(*limit, *used - cache);
}

template <class T>
void lower(std::optional<T>& limit, std::optional<T> other) {
  if (other && (!limit || *other < *limit)) limit = other;
}

// The least value that `read` finds in the folders from the mount point down to the process's cgroup.
template <class T>
std::optional<T> least_along(const fs::path& root, const CgroupMount& mount, const std::string& process_path,
                             std::optional<T> (*read)(const fs::path&, bool)) {
  // Without a cgroup namespace the path is the host's, and the mount shows only the part below mount.root.
  std::string inside = process_path;
  if (mount.root != "/" && (inside == mount.root || inside.rfind(mount.root + "/", 0) == 0)) inside = inside.substr(mount.root.size());
  const fs::path relative = fs::path(inside).relative_path();
  std::vector<fs::path> names;
  for (const fs::path& name : relative) {
    if (name == ".." || names.size() > 64) {  // outside of what is mounted: only the mount point itself can be read
      names.clear();
      break;
    }
    if (!name.empty() && name != ".") names.push_back(name);
  }
  std::optional<T> limit;
  fs::path folder = root / fs::path(mount.point).relative_path();
  lower(limit, read(folder, mount.version2));
  for (const fs::path& name : names) {
    folder /= name;
    lower(limit, read(folder, mount.version2));
  }
  return limit;
}

// The least over all hierarchies that the process is in: version 2's, and version 1's with this controller.
template <class T>
std::optional<T> least_of_cgroups(const fs::path& root, std::string_view controller, std::optional<T> (*read)(const fs::path&, bool)) {
  std::optional<T> limit;
  std::ifstream file(root / "proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    // hierarchy:controllers:path; hierarchy 0 without controllers is version 2
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool version2 = controllers.empty();
    if (!version2 && !contains(split(controllers, ','), controller)) continue;
    if (const auto mount = find_mount(root, version2, controller)) lower(limit, least_along(root, *mount, line.substr(second + 1), read));
  }
  return limit;
}

}  // namespace

std::optional<double> cgroup_cpu_quota(const fs::path& root) { return least_of_cgroups(root, "cpu", read_quota); }

std::optional<uint64_t> cgroup_memory_left(const fs::path& root) { return least_of_cgroups(root, "memory", read_memory_left); }

int physical_cores(const fs::path& root, const std::vector<int>& cpus) {
  std::set<std::string> cores;
  for (const int cpu : cpus) {
    const fs::path topology = root / "sys/devices/system/cpu" / ("cpu" + std::to_string(cpu)) / "topology";
    std::string siblings;
    for (const char* name : {"core_cpus_list", "thread_siblings_list"}) {
      if (std::getline(std::ifstream(topology / name), siblings) && !siblings.empty()) break;
    }
    cores.insert(siblings.empty() ? "cpu " + std::to_string(cpu) : siblings);
  }
  return static_cast<int>(cores.size());
}

std::vector<int> affinity_cpus() {
  std::vector<int> cpus;
  for (int size = 1024; size <= 1 << 18; size *= 2) {  // the call fails while the mask is smaller than the kernel's
    cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(size));
    if (!set) break;
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(size));
    CPU_ZERO_S(bytes, set);
    const bool known = sched_getaffinity(0, bytes, set) == 0;
    for (int cpu = 0; known && cpu < size; ++cpu) {
      if (CPU_ISSET_S(static_cast<size_t>(cpu), bytes, set)) cpus.push_back(cpu);
    }
    CPU_FREE(set);
    if (known) break;
  }
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

}  // namespace bolide
