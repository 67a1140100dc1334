#include "method/scorer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "method/selection.hpp"

namespace cake {
namespace {

using Floats = std::vector<float>;
using Tokens = std::vector<int32_t>;

Tokens up_to(int32_t n) {
    Tokens values(static_cast<size_t>(n));
    std::iota(values.begin(), values.end(), 0);
    return values;
}

Floats score(std::string_view name, const ScorerInput& input) {
    const auto* scorer = find_scorer(name);
    return scorer == nullptr ? Floats{} : scorer->score(input);
}

/// One KV head with tokens at positions 0, 1, 2, …
struct OneHead {
    Tokens positions;
    HeadKeys keys;

    explicit OneHead(int32_t n) : positions(up_to(n)), keys{.positions = positions} {}
    Floats score(std::string_view name, ScorerInput input = {}) const {
        input.heads = {&keys, 1};
        return cake::score(name, input);
    }
};

Floats score_mean(std::string_view name, const Floats& mean, const Floats& variance = {}, ScorerInput input = {}) {
    OneHead head(static_cast<int32_t>(mean.size()) / input.n_group);
    const Floats none(mean.size());
    head.keys.mean = mean;
    head.keys.variance = variance.empty() ? none : variance;
    return head.score(name, input);
}

void expect_near(const Floats& actual, const Floats& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); i++) EXPECT_NEAR(actual[i], expected[i], 1e-6F) << "at " << i;
}

TEST(CakeScorer, AddsGammaTimesTheVarianceToTheMean) {
    expect_near(score_mean("cake", {0.5F}, {0.01F}, {.gamma = 200}), {2.5F / 5});
    expect_near(score_mean("cake", {0.5F}, {0.01F}, {.gamma = 0}), {0.5F / 5});
}

TEST(CakeScorer, PoolsOverFiveKeysAndCountsThePaddingAtTheEnds) {
    expect_near(score_mean("cake", {1, 0, 0, 0, 0, 0, 10}), {0.2F, 0.2F, 0.2F, 0, 2, 2, 2});
    expect_near(score_mean("cake", {5, 0, 0}, {0, 0.1F, 0}, {.gamma = 10}), {1.2F, 1.2F, 1.2F});
}

TEST(CakeScorer, AveragesTheHeadsThatShareAKvHead) {
    expect_near(score_mean("cake", {1, 2}, {}, {.n_group = 2}), {1.5F / 5});
    expect_near(score_mean("cake", {1, 2, 10, 30}, {}, {.n_group = 4}), {43.0F / 4 / 5});
}

TEST(CakeScorer, ReadsTheHeadItIsAskedFor) {
    const Tokens positions = {0};
    const Floats one = {1};
    const Floats ten = {10};
    const std::vector<HeadKeys> heads = {{.positions = positions, .mean = one, .variance = one},
                                         {.positions = positions, .mean = ten, .variance = ten}};
    expect_near(score("cake", {.head = 1, .heads = heads, .gamma = 1}), {20.0F / 5});
}

TEST(CakePlusScorer, AScoreFadesByHalfAfterSixTokensAndBeforeTwo) {
    Floats mean(40, 0);
    mean[20] = 8;
    const auto scores = score_mean("cake+", mean);
    for (size_t j = 0; j < scores.size(); j++) {
        const double halvings = j < 20 ? (20 - static_cast<double>(j)) / 2 : (static_cast<double>(j) - 20) / 6;
        EXPECT_NEAR(scores[j], 8 * std::exp2(-halvings), 1e-5) << j;
    }
}

TEST(CakePlusScorer, TheLargestScoreThatReachesATokenCounts) {
    // 8 halves every 2 tokens before and every 6 after, and 5 stands in its way.
    expect_near(score_mean("cake+", {8, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0}),
                {8, 7.127190F, 6.349604F, 5.656854F, 5.039684F, 4.489848F, 5, 4.454494F, 3.968503F, 3.535534F,
                 3.149803F, 2.806155F, 2.5F});
}

TEST(SnapKvScorer, TakesTheLargestMeanOfSevenKeysAndIgnoresTheVariance) {
    expect_near(score_mean("snapkv", {9, 0, 0, 0, 0, 0, 0, 0, 1}, {0, 0, 0, 0, 7, 0, 0, 0, 0}),
                {9, 9, 9, 9, 0, 1, 1, 1, 1});
}

TEST(Scorers, PoolOverAsManyKeysAsTheyAreTold) {
    const auto pooled = [&](std::string_view name, int32_t kernel) {
        return score_mean(name, {0, 0, 0, 3, 0, 0, 0}, {}, {.pool_kernel = kernel});
    };
    expect_near(pooled("cake", 1), {0, 0, 0, 3, 0, 0, 0});
    expect_near(pooled("cake", 3), {0, 0, 1, 1, 1, 0, 0});
    expect_near(pooled("snapkv", 5), {0, 3, 3, 3, 3, 3, 0});
    expect_near(pooled("cake+", 1), {0, 0, 0, 3, 0, 0, 0});
    expect_near(pooled("cake+", 9), {0.132583F, 0.375F, 1.060660F, 3, 2.121320F, 1.5F, 1.060660F});
}

Tokens h2o_keeps(const Floats& sum, int32_t window, int32_t budget) {
    OneHead head(static_cast<int32_t>(sum.size()));
    head.keys.sum = sum;
    return select_top(head.score("h2o", {.window = window}), budget);
}

TEST(H2oScorer, KeepsHalfByAttentionAndHalfTheMostRecentTheWindowAmongThem) {
    const Floats sum = {9, 1, 8, 2, 7, 3, 0, 0, 0, 0};
    // 4 tokens and a window of 2 are kept: 3 recent ones (the window and token 9) and 3 heavy hitters.
    EXPECT_EQ(h2o_keeps(sum, 2, 4), (Tokens{0, 2, 4, 9}));
    // 8 tokens and a window of 2: 5 recent ones (the window and tokens 7, 8, 9) and 5 heavy hitters.
    EXPECT_EQ(h2o_keeps(sum, 2, 8), (Tokens{0, 2, 3, 4, 5, 7, 8, 9}));
    // If the window is half of what is kept, the other half is chosen by attention alone.
    EXPECT_EQ(h2o_keeps(sum, 4, 4), (Tokens{0, 2, 4, 5}));
}

TEST(H2oScorer, ARecentTokenThatIsHeavyTooLeavesItsPlaceToTheNextHeaviest) {
    EXPECT_EQ(h2o_keeps({5, 1, 2, 3, 9}, 1, 3), (Tokens{0, 3, 4}));  // recent: 4 and the window; heavy: 0, 3
}

TEST(TovaScorer, AveragesTheLastQueryOverAllHeadsOfTheLayer) {
    const Tokens positions = {0, 1, 2};
    const Floats first = {1, 2, 3, 0, 0, 6};  // two query heads
    const Floats second = {4, 0, 0, 1, 0, 1};
    const std::vector<HeadKeys> heads = {{.positions = positions, .last = first},
                                         {.positions = positions, .last = second}};
    for (int32_t head = 0; head < 2; head++)
        EXPECT_EQ(score("tova", {.head = head, .n_group = 2, .heads = heads}), (Floats{6, 2, 10}));
}

TEST(TovaScorer, MatchesHeadsThatHoldDifferentTokensByPosition) {
    const Tokens first = {0, 5, 9};
    const Tokens second = {5, 7};
    const Floats first_last = {1, 2, 3};
    const Floats second_last = {10, 20};
    const std::vector<HeadKeys> heads = {{.positions = first, .last = first_last},
                                         {.positions = second, .last = second_last}};
    EXPECT_EQ(score("tova", {.head = 0, .heads = heads}), (Floats{1, 12, 3}));
    EXPECT_EQ(score("tova", {.head = 1, .heads = heads}), (Floats{12, 20}));
}

TEST(KnormScorer, KeepsTheKeysOfTheSmallestNorm) {
    OneHead head(3);
    const Floats keys = {3, 4, 0, 1, -6, 8};
    head.keys.keys = keys;
    EXPECT_EQ(head.score("knorm"), (Floats{-5, -1, -10}));
}

TEST(KeydiffScorer, KeepsTheKeysLeastLikeTheMeanDirection) {
    OneHead head(4);
    const Floats keys = {1, 0, 5, 0,
                         0, 2, 0, 0};  // the mean of the unit vectors is (2, 1) / 4; a zero vector has no direction
    head.keys.keys = keys;
    const float root = std::sqrt(5.0F);
    expect_near(head.score("keydiff"), {-2 / root, -2 / root, -1 / root, 0});
}

TEST(StreamingScorer, KeepsTheFirstFourAndTheMostRecent) {
    const auto scores = OneHead(10).score("streaming-llm");
    EXPECT_EQ(select_top(scores, 6), (Tokens{0, 1, 2, 3, 8, 9}));
    EXPECT_EQ(select_top(scores, 3), (Tokens{0, 1, 2}));
}

TEST(StreamingScorer, GoesByThePositionInTheTextNotByTheSlot) {
    const Tokens positions = {2, 50, 60, 70, 80};  // most of the text has been evicted
    const HeadKeys keys{.positions = positions};
    EXPECT_EQ(select_top(score("streaming-llm", {.heads = {&keys, 1}}), 2), (Tokens{0, 4}));
}

TEST(RandomScorer, GivesATokenTheSameScoreWheneverItIsAsked) {
    const Tokens some = {3, 40, 97};
    const HeadKeys keys{.positions = some};
    const auto of_all = OneHead(100).score("random", {.layer = 2, .seed = 9});
    const auto of_some = score("random", {.layer = 2, .heads = {&keys, 1}, .seed = 9});
    ASSERT_EQ(of_some.size(), 3U);
    for (size_t i = 0; i < some.size(); i++) EXPECT_EQ(of_some[i], of_all[static_cast<size_t>(some[i])]);
}

TEST(RandomScorer, DiffersBySeedLayerAndHead) {
    const auto positions = up_to(100);
    const std::vector<HeadKeys> heads(2, {.positions = positions});
    const auto keep = [&](int32_t layer, uint64_t seed, int32_t head) {
        return select_top(score("random", {.layer = layer, .head = head, .heads = heads, .seed = seed}), 30);
    };
    const auto kept = keep(0, 1, 0);
    EXPECT_EQ(kept, keep(0, 1, 0));
    EXPECT_NE(kept, keep(0, 2, 0));
    EXPECT_NE(kept, keep(1, 1, 0));
    EXPECT_NE(kept, keep(0, 1, 1));
}

TEST(Scorers, AreFoundByName) {
    for (const auto* scorer : scorers()) EXPECT_EQ(find_scorer(scorer->name), scorer);
    EXPECT_EQ(find_scorer("none-such"), nullptr);
}

TEST(Scorers, OfNoKeysAreNone) {
    for (const auto* scorer : scorers()) EXPECT_TRUE(OneHead(0).score(scorer->name).empty()) << scorer->name;
}

TEST(AddScorer, MakesOneKnownOnce) {
    const Scorer mine{.name = "oldest", .summary = "the oldest", .reads = {}, .score = [](const ScorerInput& input) {
                          const auto positions = input.scored().positions;
                          Floats scores;
                          for (const int32_t position : positions) scores.push_back(-static_cast<float>(position));
                          return scores;
                      }};
    ASSERT_TRUE(add_scorer(mine));
    EXPECT_EQ(OneHead(3).score("oldest"), (Floats{0, -1, -2}));
    EXPECT_FALSE(add_scorer(mine)) << "the name is taken";
    for (const auto* name : {"", "a:b", "a b"}) {
        Scorer other = mine;
        other.name = name;
        EXPECT_FALSE(add_scorer(other)) << name;
    }
    Scorer empty{.name = "empty", .summary = {}, .reads = {}, .score = {}};
    EXPECT_FALSE(add_scorer(empty));
}

}  // namespace
}  // namespace cake
