#include "method/scorer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

namespace cake {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<int32_t> up_to(int32_t n) {
    std::vector<int32_t> values(static_cast<size_t>(n));
    std::iota(values.begin(), values.end(), 0);
    return values;
}

std::vector<float> score(std::string_view name, const ScorerInput& input) {
    const auto* scorer = find_scorer(name);
    return scorer == nullptr ? std::vector<float>{} : scorer->score(input);
}

std::vector<float> score_attention(std::string_view name, const AttentionStats& stats, int32_t n_head_kv, float gamma) {
    return score(
        name,
        {.n_head = stats.n_head, .n_head_kv = n_head_kv, .n_keys = stats.n_keys, .stats = &stats, .gamma = gamma});
}

void expect_near(const std::vector<float>& actual, const std::vector<float>& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); i++) EXPECT_NEAR(actual[i], expected[i], 1e-6F) << "at " << i;
}

TEST(CakeScorer, AddsGammaTimesTheVarianceToTheMean) {
    AttentionStats stats(1, 1);
    stats.mean = {0.5F};
    stats.variance = {0.01F};
    expect_near(score_attention("cake", stats, 1, 200), {2.5F / 5});
    expect_near(score_attention("cake", stats, 1, 0), {0.5F / 5});
}

TEST(CakeScorer, PoolsOverFiveKeysAndCountsThePaddingAtTheEnds) {
    AttentionStats stats(1, 7);
    stats.mean = {1, 0, 0, 0, 0, 0, 10};
    expect_near(score_attention("cake", stats, 1, 200), {0.2F, 0.2F, 0.2F, 0, 2, 2, 2});
    AttentionStats few(1, 3);
    few.mean = {5, 0, 0};
    few.variance = {0, 0.1F, 0};
    expect_near(score_attention("cake", few, 1, 10), {1.2F, 1.2F, 1.2F});
}

TEST(CakeScorer, AveragesTheHeadsThatShareAKvHead) {
    AttentionStats stats(4, 1);
    stats.mean = {1, 2, 10, 30};
    expect_near(score_attention("cake", stats, 2, 200), {1.5F / 5, 20.0F / 5});
    expect_near(score_attention("cake", stats, 4, 200), {1.0F / 5, 2.0F / 5, 10.0F / 5, 30.0F / 5});
    expect_near(score_attention("cake", stats, 1, 200), {43.0F / 4 / 5});
}

TEST(SnapKvScorer, TakesTheLargestMeanOfSevenKeysAndIgnoresTheVariance) {
    AttentionStats stats(1, 9);
    stats.mean = {9, 0, 0, 0, 0, 0, 0, 0, 1};
    stats.variance = {0, 0, 0, 0, 7, 0, 0, 0, 0};
    expect_near(score_attention("snapkv", stats, 1, 200), {9, 9, 9, 9, 0, 1, 1, 1, 1});
}

TEST(Scorers, PoolOverAsManyKeysAsTheyAreTold) {
    AttentionStats stats(1, 7);
    stats.mean = {0, 0, 0, 3, 0, 0, 0};
    const auto pooled = [&](std::string_view name, int32_t kernel) {
        return score(name, {.n_head = 1, .n_head_kv = 1, .n_keys = 7, .stats = &stats, .pool_kernel = kernel});
    };
    expect_near(pooled("cake", 1), {0, 0, 0, 3, 0, 0, 0});
    expect_near(pooled("cake", 3), {0, 0, 1, 1, 1, 0, 0});
    expect_near(pooled("snapkv", 5), {0, 3, 3, 3, 3, 3, 0});
}

TEST(StreamingScorer, KeepsTheFirstFourAndTheMostRecent) {
    const auto positions = up_to(10);
    const auto scores = score("streaming-llm", {.n_head = 1, .n_head_kv = 1, .n_keys = 10, .positions = positions});
    EXPECT_EQ(select_top(scores, 6), (std::vector<int32_t>{0, 1, 2, 3, 8, 9}));
    EXPECT_EQ(select_top(scores, 3), (std::vector<int32_t>{0, 1, 2}));
}

TEST(StreamingScorer, GoesByThePositionInTheTextNotByTheSlot) {
    const std::vector<int32_t> positions = {2, 50, 60, 70, 80};  // most of the text is evicted already
    const auto scores = score("streaming-llm", {.n_head = 1, .n_head_kv = 1, .n_keys = 5, .positions = positions});
    EXPECT_EQ(select_top(scores, 2), (std::vector<int32_t>{0, 4}));
}

TEST(RandomScorer, GivesATokenTheSameScoreWheneverItIsAsked) {
    const auto all = up_to(100);
    const std::vector<int32_t> some = {3, 40, 97};
    const auto of_all = score("random", {.layer = 2, .n_head_kv = 1, .n_keys = 100, .positions = all, .seed = 9});
    const auto of_some = score("random", {.layer = 2, .n_head_kv = 1, .n_keys = 3, .positions = some, .seed = 9});
    ASSERT_EQ(of_some.size(), 3U);
    for (size_t i = 0; i < some.size(); i++) EXPECT_EQ(of_some[i], of_all[static_cast<size_t>(some[i])]);
}

TEST(RandomScorer, DiffersBySeedLayerAndHead) {
    std::vector<int32_t> positions = up_to(100);
    for (int32_t i = 0; i < 100; i++) positions.push_back(i);
    const auto keep = [&](int32_t layer, uint64_t seed, bool second_head) {
        const auto scores =
            score("random", {.layer = layer, .n_head_kv = 2, .n_keys = 100, .positions = positions, .seed = seed});
        return select_top(std::span(scores).subspan(second_head ? 100 : 0, 100), 30);
    };
    const auto kept = keep(0, 1, false);
    EXPECT_EQ(kept, keep(0, 1, false));
    EXPECT_NE(kept, keep(0, 2, false));
    EXPECT_NE(kept, keep(1, 1, false));
    EXPECT_NE(kept, keep(0, 1, true));
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

TEST(Scorers, AreFoundByName) {
    for (const auto& scorer : scorers()) EXPECT_EQ(find_scorer(scorer.name), &scorer);
    EXPECT_EQ(find_scorer("none-such"), nullptr);
}

}  // namespace
}  // namespace cake
