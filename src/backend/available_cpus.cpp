#include "backend/available_cpus.hpp"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>

namespace cake {

namespace {

namespace fs = std::filesystem;

std::optional<double> ratio(double quota, double period) {
    if (!(quota > 0) || !(period > 0)) return std::nullopt;
    return quota / period;
}

/// cgroup v2: one file with "150000 100000", or "max 100000" if there is no quota.
std::optional<double> quota_v2(const fs::path& group) {
    double quota = 0;
    double period = 0;
    std::ifstream file(group / "cpu.max");
    return file >> quota >> period ? ratio(quota, period) : std::nullopt;
}

/// cgroup v1: two files; the quota is -1 if there is none.
std::optional<double> quota_v1(const fs::path& group) {
    double quota = 0;
    double period = 0;
    const bool read =
        std::ifstream(group / "cpu.cfs_quota_us") >> quota && std::ifstream(group / "cpu.cfs_period_us") >> period;
    return read ? ratio(quota, period) : std::nullopt;
}

using QuotaOf = std::optional<double> (*)(const fs::path& group);

/// The smallest quota of a group and its parents. A container may see only some of the groups; its own group is then
/// the root of the mounted ones.
std::optional<double> smallest_quota(const fs::path& mount, fs::path group, QuotaOf quota_of) {
    std::optional<double> smallest;
    for (group = group.relative_path();; group = group.parent_path()) {
        if (const auto quota = quota_of(mount / group)) smallest = std::min(smallest.value_or(*quota), *quota);
        if (group.empty()) return smallest;
    }
}

/// True if a comma-separated list of controllers contains "cpu".
bool has_cpu(std::string_view controllers) {
    return ("," + std::string(controllers) + ",").contains(",cpu,");
}

int32_t affine_cpus() {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    // sched_getaffinity() fails on machines with more than 1,024 CPUs.
    if (::sched_getaffinity(0, sizeof(cpus), &cpus) == 0) return CPU_COUNT(&cpus);
    return static_cast<int32_t>(std::thread::hardware_concurrency());
}

}  // namespace

std::optional<double> cpu_quota(const fs::path& root) {
    const auto mount = root / "sys/fs/cgroup";
    std::ifstream groups(root / "proc/self/cgroup");
    std::optional<double> smallest;
    // "HIERARCHY:CONTROLLERS:PATH"; version 2 has the hierarchy 0 and no controllers.
    for (std::string line; std::getline(groups, line);) {
        const auto first = line.find(':');
        const auto second = first == std::string::npos ? first : line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const auto controllers = line.substr(first + 1, second - first - 1);
        const auto group = fs::path(line.substr(second + 1)).lexically_normal();
        const auto quota = line.starts_with("0::") ? smallest_quota(mount, group, quota_v2)
                           : has_cpu(controllers)  ? smallest_quota(mount / "cpu", group, quota_v1)
                                                   : std::nullopt;
        if (quota) smallest = std::min(smallest.value_or(*quota), *quota);
    }
    return smallest;
}

int32_t available_cpus(const fs::path& root) {
    const int32_t n_cpus = std::max(1, affine_cpus());
    const auto quota = cpu_quota(root);
    if (!quota || *quota >= n_cpus) return n_cpus;
    return std::max(1, static_cast<int32_t>(std::floor(*quota)));
}

}  // namespace cake
