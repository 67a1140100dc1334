#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace cake {

/// CPU quota of the container in CPUs: the smallest quota of this process's control group and its parents (`cpu.max` of
/// cgroup v2, `cpu.cfs_quota_us` of v1). Nothing if there is no quota. `root` is the directory that contains /proc and
/// /sys.
std::optional<double> cpu_quota(const std::filesystem::path& root = "/");

/// Number of threads that can run at once: the CPUs that this process may use, limited by the quota; at least 1.
int32_t available_cpus(const std::filesystem::path& root = "/");

}  // namespace cake
