#include "method/allocator.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

namespace cake {
namespace {

using Budgets = std::vector<int32_t>;

Budgets fill(int64_t total, std::vector<double> weights, std::vector<int32_t> caps) {
    return water_fill(total, weights, caps);
}

TEST(WaterFill, SharesByWeightWhereNoCapIsReached) {
    EXPECT_EQ(fill(100, {1, 3}, {1000, 1000}), (Budgets{25, 75}));
    EXPECT_EQ(fill(10, {2, 2, 2}, {9, 9, 9}), (Budgets{3, 3, 3}));  // rounded down: one token stays unused
}

TEST(WaterFill, SharesWhatAFullLayerLeavesByWeightToo) {
    EXPECT_EQ(fill(100, {1, 1, 8}, {100, 100, 20}), (Budgets{40, 40, 20}));
    // The first layer would get 62.5 > 20, then the second 80 * 5/6 > 25; the third gets the rest.
    EXPECT_EQ(fill(100, {10, 5, 1}, {20, 25, 100}), (Budgets{20, 25, 55}));
    EXPECT_EQ(fill(60, {1, 2, 30}, {50, 50, 30}), (Budgets{10, 20, 30}));
}

TEST(WaterFill, GivesEveryLayerItsCapWhereTheTotalIsEnough) {
    EXPECT_EQ(fill(60, {1, 2, 3}, {10, 20, 30}), (Budgets{10, 20, 30}));
    EXPECT_EQ(fill(61, {9, 1e-9, 0}, {10, 20, 30}), (Budgets{10, 20, 30}));
    EXPECT_EQ(fill(std::numeric_limits<int64_t>::max(), {1, 1}, {7, std::numeric_limits<int32_t>::max()}),
              (Budgets{7, std::numeric_limits<int32_t>::max()}));
}

TEST(WaterFill, GivesNothingWhereThereIsNothing) {
    EXPECT_EQ(fill(0, {1, 2}, {10, 10}), (Budgets{0, 0}));
    EXPECT_EQ(fill(-5, {1, 2}, {10, 10}), (Budgets{0, 0}));
    EXPECT_EQ(fill(10, {1, 2}, {0, 0}), (Budgets{0, 0}));
    EXPECT_EQ(fill(10, {}, {}), (Budgets{}));
}

TEST(WaterFill, LayersOfWeightZeroShareEquallyWhatTheOthersCannotHold) {
    EXPECT_EQ(fill(10, {0, 0, 0}, {100, 100, 100}), (Budgets{3, 3, 3}));
    EXPECT_EQ(fill(10, {0, 0, 0}, {1, 100, 100}), (Budgets{1, 4, 4}));
    EXPECT_EQ(fill(10, {1, 0, 0}, {4, 100, 100}), (Budgets{4, 3, 3}));
    EXPECT_EQ(fill(10, {1, 0}, {100, 100}), (Budgets{10, 0}));
}

TEST(WaterFill, DoesNotLoseATokenToRounding) {
    EXPECT_EQ(fill(70, std::vector<double>(10, 0.1), std::vector<int32_t>(10, 100)), Budgets(10, 7));
    EXPECT_EQ(fill(49 * 3, std::vector<double>(49, 1.0 / 49), std::vector<int32_t>(49, 100)), Budgets(49, 3));
}

TEST(WaterFill, BearsWeightsOfAnySize) {
    EXPECT_EQ(fill(64, std::vector<double>(64, 1e200), std::vector<int32_t>(64, 9)), Budgets(64, 1));
    EXPECT_EQ(fill(20, {1e200, 1e-300}, {5, 100}), (Budgets{5, 15}));
    EXPECT_EQ(fill(20, {1e-300, 1e-300}, {100, 100}), (Budgets{10, 10}));
}

TEST(WaterFill, NeverRaisesABudgetWhenALayerJoins) {
    // If the leftover of a full layer were distributed equally, the small layers would gain when another one joins.
    EXPECT_EQ(fill(100, {100, 1}, {80, 80}), (Budgets{80, 20}));
    EXPECT_EQ(fill(100, {100, 1, 1}, {80, 80, 80}), (Budgets{80, 10, 10}));
    EXPECT_EQ(fill(100, {100, 1, 1, 100}, {80, 80, 80, 80}), (Budgets{49, 0, 0, 49}));
}

TEST(Allocators, AreFoundByName) {
    for (const auto& allocator : allocators()) EXPECT_EQ(find_allocator(allocator.name), &allocator);
    EXPECT_EQ(allocators().size(), 8U);
    EXPECT_EQ(find_allocator("none-such"), nullptr);
}

TEST(Allocators, ThoseThatShareAmongHeadsShareAmongLayersAsTheirNamesSay) {
    const auto* adaptive = find_allocator("adaptive-heads");
    const auto* preferring = find_allocator("preference-heads");
    ASSERT_TRUE(adaptive != nullptr && preferring != nullptr);
    EXPECT_EQ(adaptive->heads.split, HeadSplit::adaptive);
    EXPECT_EQ(preferring->heads.split, HeadSplit::adaptive);
    EXPECT_EQ(adaptive->weight({0, 4, 9}), adaptive->weight({3, 4, 0}));
    EXPECT_EQ(preferring->weight({0, 4, 9}), 9);
    EXPECT_FALSE(adaptive->reads_attention);
    EXPECT_TRUE(preferring->reads_attention);
    for (const auto* name : {"uniform", "pyramid", "preference"})
        EXPECT_EQ(find_allocator(name)->heads.split, HeadSplit::uniform) << name;
}

TEST(Allocators, UniformIgnoresThePreference) {
    const auto* uniform = find_allocator("uniform");
    ASSERT_NE(uniform, nullptr);
    EXPECT_FALSE(uniform->reads_attention);
    EXPECT_EQ(uniform->weight({0, 4, 9}), uniform->weight({3, 4, 0}));
    EXPECT_GT(uniform->weight({0, 4, 0}), 0);
}

TEST(Allocators, PreferenceIsThePreference) {
    const auto* by_preference = find_allocator("preference");
    ASSERT_NE(by_preference, nullptr);
    EXPECT_TRUE(by_preference->reads_attention);
    EXPECT_EQ(by_preference->weight({2, 4, 0.75}), 0.75);
}

TEST(Allocators, PreferencesThatAreAllZeroGiveEqualShares) {
    const auto* by_preference = find_allocator("preference");
    ASSERT_NE(by_preference, nullptr);
    const double zero = by_preference->weight({0, 4, 0});
    EXPECT_EQ(fill(40, {zero, zero, zero, zero}, {100, 100, 100, 100}), (Budgets{10, 10, 10, 10}));
}

TEST(Allocators, PyramidFallsLinearlyToATwentiethOfTheAverage) {
    const auto* pyramid = find_allocator("pyramid");
    ASSERT_NE(pyramid, nullptr);
    EXPECT_FALSE(pyramid->reads_attention);
    EXPECT_EQ(pyramid->weight({0, 1, 0}), 1);
    for (int32_t n_layer = 2; n_layer <= 128; n_layer++) {
        SCOPED_TRACE(n_layer);
        std::vector<double> weights;
        for (int32_t l = 0; l < n_layer; l++) weights.push_back(pyramid->weight({l, n_layer, 0}));
        EXPECT_DOUBLE_EQ(weights.front(), 1.95);
        EXPECT_NEAR(weights.back(), 0.05, 1e-12);
        EXPECT_NEAR(std::accumulate(weights.begin(), weights.end(), 0.0), n_layer, 1e-9);
        const double step = weights[1] - weights[0];
        for (size_t l = 1; l < weights.size(); l++) EXPECT_NEAR(weights[l] - weights[l - 1], step, 1e-12);
    }
}

}  // namespace
}  // namespace cake
