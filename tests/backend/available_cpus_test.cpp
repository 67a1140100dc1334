#include "backend/available_cpus.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <fstream>
#include <initializer_list>
#include <string>
#include <utility>

namespace cake {
namespace {

namespace fs = std::filesystem;

/// A temporary folder that serves as the root of a file system.
class MadeRoot {
  public:
    MadeRoot(std::initializer_list<std::pair<std::string, std::string>> files)
        : path_(fs::temp_directory_path() / fmt::format("cake-cpus-{}-{}", ::getpid(), n_made++)) {
        for (const auto& [name, text] : files) {
            fs::create_directories((path_ / name).parent_path());
            std::ofstream(path_ / name) << text;
        }
    }
    ~MadeRoot() { fs::remove_all(path_); }
    MadeRoot(const MadeRoot&) = delete;
    MadeRoot& operator=(const MadeRoot&) = delete;
    const fs::path& path() const { return path_; }

  private:
    static inline int n_made = 0;
    fs::path path_;
};

int32_t n_affine() {
    cpu_set_t cpus;
    EXPECT_EQ(::sched_getaffinity(0, sizeof(cpus), &cpus), 0);
    return CPU_COUNT(&cpus);
}

TEST(CpuQuota, IsThatOfTheGroup) {
    const MadeRoot root{{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/cpu.max", "150000 100000\n"}};
    EXPECT_EQ(cpu_quota(root.path()), 1.5);
}

TEST(CpuQuota, IsTheSmallestOfTheGroupsAbove) {
    const MadeRoot root{{"proc/self/cgroup", "0::/a/b/c\n"},
                        {"sys/fs/cgroup/a/cpu.max", "300000 100000\n"},
                        {"sys/fs/cgroup/a/b/cpu.max", "50000 25000\n"},
                        {"sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n"}};
    EXPECT_EQ(cpu_quota(root.path()), 2.0);
}

TEST(CpuQuota, IsFoundWhereTheContainerSeesOnlyItsOwnGroup) {
    const MadeRoot root{{"proc/self/cgroup", "0::/system.slice/engine/0123\n"},
                        {"sys/fs/cgroup/cpu.max", "400000 100000\n"}};
    EXPECT_EQ(cpu_quota(root.path()), 4.0);
}

TEST(CpuQuota, IsReadFromVersionOneToo) {
    const MadeRoot root{{"proc/self/cgroup", "9:memory:/x\n4:cpu,cpuacct:/x/y\n3:cpuset:/x\n"},
                        {"sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "250000\n"},
                        {"sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n"},
                        {"sys/fs/cgroup/cpu/x/y/cpu.cfs_quota_us", "-1\n"},
                        {"sys/fs/cgroup/cpu/x/y/cpu.cfs_period_us", "100000\n"}};
    EXPECT_EQ(cpu_quota(root.path()), 2.5);
}

TEST(CpuQuota, IsNoneWhereNothingIsSaidOrWhatIsSaidIsNoQuota) {
    for (const char* text : {"max 100000\n", "", "0 100000\n", "100000 0\n", "-5 100000\n", "nan 1\n", "many\n"}) {
        const MadeRoot root{{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/cpu.max", text}};
        EXPECT_EQ(cpu_quota(root.path()), std::nullopt) << text;
    }
    const MadeRoot strange{{"proc/self/cgroup", "\n:\n0:\n0::\n"}};
    EXPECT_EQ(cpu_quota(strange.path()), std::nullopt);
    EXPECT_EQ(cpu_quota(MadeRoot({}).path()), std::nullopt);
}

TEST(AvailableCpus, DoNotExceedTheQuota) {
    const auto with = [](const char* quota) {
        const MadeRoot root{{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/cpu.max", quota}};
        return available_cpus(root.path());
    };
    EXPECT_EQ(with("100000 100000\n"), 1);
    EXPECT_EQ(with("190000 100000\n"), 1);
    EXPECT_EQ(with("10000 100000\n"), 1) << "a part of a CPU is one thread";
    EXPECT_EQ(with("200000 100000\n"), std::min(2, n_affine()));
    EXPECT_EQ(with("9000000 100000\n"), std::min(90, n_affine()));
    EXPECT_EQ(with("max 100000\n"), n_affine());
}

TEST(AvailableCpus, DoNotExceedTheAffinityMask) {
    cpu_set_t all;
    ASSERT_EQ(::sched_getaffinity(0, sizeof(all), &all), 0);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &all)) cpu++;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ASSERT_EQ(::sched_setaffinity(0, sizeof(one), &one), 0);
    const MadeRoot root{};
    EXPECT_EQ(available_cpus(root.path()), 1);
    ASSERT_EQ(::sched_setaffinity(0, sizeof(all), &all), 0);
}

}  // namespace
}  // namespace cake
