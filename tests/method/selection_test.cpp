#include "method/selection.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

namespace cake {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

using Kept = std::vector<std::vector<int32_t>>;

Kept select(const std::vector<std::vector<float>>& scores, int32_t budget, int32_t window, HeadSplit split) {
    const std::vector<std::span<const float>> views(scores.begin(), scores.end());
    return select_heads(views, budget, window, {.split = split, .floor = split == HeadSplit::uniform ? 0 : 0.2});
}

TEST(SelectTop, KeepsTheHighestInTheOrderOfTheText) {
    EXPECT_EQ(select_top(std::vector<float>{1, 9, 3, 7}, 2), (std::vector<int32_t>{1, 3}));
    EXPECT_EQ(select_top(std::vector<float>{9, 1, 7, 3}, 3), (std::vector<int32_t>{0, 2, 3}));
}

TEST(SelectTop, OfEqualScoresTheOlderStays) {
    EXPECT_EQ(select_top(std::vector<float>(6, 1.0F), 2), (std::vector<int32_t>{0, 1}));
    EXPECT_EQ(select_top(std::vector<float>{0, 2, 1, 1, 1, 2}, 3), (std::vector<int32_t>{1, 2, 5}));
}

TEST(SelectTop, ANanGoesFirst) {
    EXPECT_EQ(select_top(std::vector<float>{kNan, 1, kNan, -5, 2}, 3), (std::vector<int32_t>{1, 3, 4}));
    EXPECT_EQ(select_top(std::vector<float>{kNan, -kInf}, 1), (std::vector<int32_t>{1}));
    EXPECT_EQ(select_top(std::vector<float>{kNan, kNan, kInf}, 2), (std::vector<int32_t>{0, 2}));
    EXPECT_EQ(select_top(std::vector<float>(5, kNan), 2), (std::vector<int32_t>{0, 1}));
}

TEST(SelectTop, ABudgetBeyondTheEndsIsAllOrNothing) {
    const std::vector<float> scores = {3, kNan, 1};
    EXPECT_EQ(select_top(scores, 3), (std::vector<int32_t>{0, 1, 2}));
    EXPECT_EQ(select_top(scores, std::numeric_limits<int32_t>::max()), (std::vector<int32_t>{0, 1, 2}));
    EXPECT_TRUE(select_top(scores, 0).empty());
    EXPECT_TRUE(select_top(scores, -1).empty());
    EXPECT_TRUE(select_top({}, 4).empty());
}

TEST(SelectHeads, UniformGivesEachHeadItsOwnBest) {
    EXPECT_EQ(select({{9, 8, 7, 6}, {1, 2, 3, 4}}, 2, 0, HeadSplit::uniform), (Kept{{0, 1}, {2, 3}}));
}

TEST(SelectHeads, AdaptiveTakesTheBestOfAllHeadsTogether) {
    // Ten slots: scores 9, 8, 7, 6, 5, 4, 3 of the first head and 3, 2.5, 2 of the second.
    EXPECT_EQ(select({{9, 8, 7, 6, 5, 4, 3, 0}, {1, 2, 3, 2.5F, 0, 0, 0, 0}}, 5, 0, HeadSplit::adaptive),
              (Kept{{0, 1, 2, 3, 4, 5, 6}, {1, 2, 3}}));
}

TEST(SelectHeads, AdaptiveLeavesEachHeadAFifthOfAUniformShare) {
    const std::vector<float> high(20, 100.0F);
    const std::vector<float> low(20, 1.0F);
    const auto kept = select({high, low}, 10, 0, HeadSplit::adaptive);
    EXPECT_EQ(kept[0].size(), 18U);
    EXPECT_EQ(kept[1], (std::vector<int32_t>{0, 1}));
}

TEST(SelectHeads, TheWindowIsNobodysShare) {
    // 2 of the 7 tokens per head are the window. Each head keeps at least a fifth of the other 5.
    std::vector<float> high(12, 100.0F);
    std::vector<float> low(12, 1.0F);
    for (auto* head : {&high, &low}) head->resize(14, kInf);
    const auto kept = select({high, low}, 7, 2, HeadSplit::adaptive);
    EXPECT_EQ(kept[0], (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13}));
    EXPECT_EQ(kept[1], (std::vector<int32_t>{0, 12, 13}));
}

TEST(SelectHeads, HeadsThatScoreAlikeShareAlike) {
    EXPECT_EQ(select({{1, 5, 3, 4}, {1, 5, 3, 4}, {1, 5, 3, 4}}, 2, 0, HeadSplit::adaptive),
              (Kept{{1, 3}, {1, 3}, {1, 3}}));
}

TEST(SelectHeads, ByCountGivesAHeadItsShareOfTheBestTokens) {
    // Of the 10 best tokens, 8 are in the first head: it gets 0.8 * 8 + 1 = 7.4 of them, and the second one 2.6.
    std::vector<float> high(20, 1.0F);
    std::vector<float> low(20, 0.0F);
    std::fill_n(high.begin(), 8, 9.0F);
    std::fill_n(low.begin(), 2, 8.0F);
    const auto kept = select({high, low}, 5, 0, HeadSplit::by_count);
    EXPECT_EQ(kept[0], (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(kept[1], (std::vector<int32_t>{0, 1, 2}));
}

TEST(SelectHeads, ByCountNeverExceedsTheBudget) {
    // Each of the five heads has half a token too much after rounding.
    for (int32_t budget = 1; budget <= 12; budget++) {
        std::vector<std::vector<float>> scores(5, std::vector<float>(12, 1.0F));
        for (size_t head = 0; head < scores.size(); head++) std::fill_n(scores[head].begin(), 3 + head, 5.0F);
        int64_t n_kept = 0;
        for (const auto& head : select(scores, budget, 0, HeadSplit::by_count)) n_kept += std::ssize(head);
        EXPECT_LE(n_kept, 5 * budget);
        EXPECT_GE(n_kept, 5 * budget - 5);
    }
}

TEST(SelectModel, TakesTheBestOfAllHeadsButOfEachItsFloor) {
    const std::vector<std::vector<float>> scores = {{9, 8, 7, 6}, {1, 2, 3, 4}, {5, 5, 5, kInf}};
    const std::vector<std::span<const float>> views(scores.begin(), scores.end());
    EXPECT_EQ(select_model(views, 6, 0), (std::vector<int32_t>{4, 0, 2}));
    EXPECT_EQ(select_model(views, 6, 1), (std::vector<int32_t>{4, 1, 1}));
    EXPECT_EQ(select_model(views, 100, 0), (std::vector<int32_t>{4, 4, 4}));
    EXPECT_EQ(select_model(views, 0, 0), (std::vector<int32_t>{0, 0, 0}));
    EXPECT_EQ(select_model(views, 3, 2), (std::vector<int32_t>{2, 2, 2})) << "a floor goes first";
}

}  // namespace
}  // namespace cake
