#include "method/preference.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace cake {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(Preference, IsTheProductOfBothPowers) {
    EXPECT_DOUBLE_EQ(preference(4, 9, 1, 1), 36);
    EXPECT_DOUBLE_EQ(preference(4, 9, 2, 2), 6);      // square roots
    EXPECT_DOUBLE_EQ(preference(3, 2, 0.5, 1), 18);   // 3^2 * 2
    EXPECT_DOUBLE_EQ(preference(3, 2, 1, 0.25), 48);  // 3 * 2^4
}

TEST(Preference, IsZeroWhereEitherQuantityIsNotAPositiveNumber) {
    for (const double bad : {0.0, -1.0, -kInf, kNan}) {
        SCOPED_TRACE(bad);
        EXPECT_EQ(preference(bad, 1, 1, 1), 0);
        EXPECT_EQ(preference(1, bad, 1, 1), 0);
        EXPECT_EQ(preference(bad, kInf, 1, 1), 0);
    }
}

TEST(Preference, AnOverflowIsALargeNumberThatCanStillBeSummed) {
    for (const double p : {preference(kInf, 1, 1, 1), preference(1, kInf, 1, 1), preference(1e200, 1e200, 1, 1),
                           preference(1e10, 1, 0.01, 1)}) {
        EXPECT_TRUE(std::isfinite(p * 1000 * 1e9));
        EXPECT_GE(p, 1e200);
    }
}

TEST(Preference, InfinityTimesAnUnderflowIsZero) {
    EXPECT_EQ(preference(kInf, 1e-300, 1, 0.5), 0);  // inf * (1e-300)^2
}

}  // namespace
}  // namespace cake
