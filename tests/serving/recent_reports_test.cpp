#include "serving/recent_reports.hpp"

#include <gtest/gtest.h>

namespace cake {
namespace {

using namespace std::chrono_literals;

TEST(RecentReports, AreKeptForTenTimesTheTimeThatTheyTook) {
    RecentReports reports;
    const RecentReports::Clock::time_point begin{};
    reports.keep({.id = "a", .n_prompt = 7}, 20ms, begin);
    ASSERT_TRUE(reports.find("a", begin + 199ms));
    EXPECT_EQ(reports.find("a", begin + 199ms)->n_prompt, 7);
    EXPECT_FALSE(reports.find("b", begin + 1ms));
    EXPECT_FALSE(reports.find("a", begin + 200ms));
}

TEST(RecentReports, AreNotKeptIfTheyTookNoTimeNorForLong) {
    RecentReports reports;
    const RecentReports::Clock::time_point begin{};
    reports.keep({.id = "quick"}, 1ms, begin);
    EXPECT_FALSE(reports.find("quick", begin));
    reports.keep({.id = "slow"}, 5s, begin);
    EXPECT_TRUE(reports.find("slow", begin + 999ms));
    EXPECT_FALSE(reports.find("slow", begin + 1s));
}

}  // namespace
}  // namespace cake
