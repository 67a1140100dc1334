#include "method/cascade.hpp"

#include <gtest/gtest.h>

namespace cake {
namespace {

using Budgets = std::vector<int32_t>;

Budgets join(Cascade& cascade, double weight, int32_t cap, int64_t total) {
    const auto budgets = cascade.join(weight, cap, total);
    return {budgets.begin(), budgets.end()};
}

TEST(Cascade, SlicesTheWholeAmongTheLayersSoFar) {
    Cascade cascade;
    EXPECT_EQ(join(cascade, 1, 100, 12), (Budgets{12}));
    EXPECT_EQ(join(cascade, 1, 100, 12), (Budgets{6, 6}));
    EXPECT_EQ(join(cascade, 2, 100, 12), (Budgets{3, 3, 6}));
}

TEST(Cascade, AFullLayerKeepsItsCapUntilOthersPreferMore) {
    Cascade cascade;
    EXPECT_EQ(join(cascade, 8, 4, 12), (Budgets{4}));
    EXPECT_EQ(join(cascade, 1, 100, 12), (Budgets{4, 8}));
    EXPECT_EQ(join(cascade, 1, 100, 12), (Budgets{4, 4, 4}));
    EXPECT_EQ(join(cascade, 30, 100, 12), (Budgets{2, 0, 0, 9}));  // 12 * {8, 1, 1, 30} / 40
}

TEST(Cascade, LayersThatNothingPrefersShareEqually) {
    Cascade cascade;
    EXPECT_EQ(join(cascade, 0, 100, 12), (Budgets{12}));
    EXPECT_EQ(join(cascade, 0, 100, 12), (Budgets{6, 6}));
    EXPECT_EQ(join(cascade, 0, 100, 12), (Budgets{4, 4, 4}));
    EXPECT_EQ(join(cascade, 1, 9, 12), (Budgets{1, 1, 1, 9}));
}

TEST(Cascade, ALargerTotalLaterGivesNothingBack) {
    Cascade cascade;
    EXPECT_EQ(join(cascade, 1, 100, 10), (Budgets{10}));
    EXPECT_EQ(join(cascade, 1, 100, 60), (Budgets{10, 30}));
}

}  // namespace
}  // namespace cake
