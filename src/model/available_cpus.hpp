#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace cake {

/// CPUs of time that the container may use, by the smallest quota of this process's control group and those above it
/// (`cpu.max` of cgroup v2, `cpu.cfs_quota_us` of v1); nothing where there is no quota. `root` is the folder that holds
/// /proc and /sys.
std::optional<double> cpu_quota(const std::filesystem::path& root = "/");

/// How many threads can compute at once: the CPUs that this process may run on, and no more than the quota; at least 1.
int32_t available_cpus(const std::filesystem::path& root = "/");

}  // namespace cake
