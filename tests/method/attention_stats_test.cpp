#include "method/attention_stats.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

namespace cake {
namespace {

/// Random softmax rows over `n_total` keys, [n_total, n_queries].
std::vector<float> random_softmax(std::mt19937_64& random, size_t n_total, size_t n_queries, double spread) {
    std::normal_distribution<double> logit(0, spread);
    std::vector<float> attention;
    for (size_t i = 0; i < n_queries; i++) {
        std::vector<double> row(n_total);
        for (double& x : row) x = std::exp(logit(random));
        const double sum = std::accumulate(row.begin(), row.end(), 0.0);
        for (const double x : row) attention.push_back(static_cast<float>(x / sum));
    }
    return attention;
}

/// Empty statistics of `n_head` query heads that share one KV head.
AttentionStats one_kv_head(int32_t n_head, int64_t n_keys) {
    return {n_head, {&n_keys, 1}};
}

TEST(AttentionStats, AreTheDefinitionsOnTwoQueriesAndTwoKeys) {
    auto stats = one_kv_head(1, 2);
    const std::vector<float> attention = {0.5F, 0.25F, 0.25F,  //
                                          0.1F, 0.65F, 0.25F};
    add_head(stats, 0, attention, 2, 1);
    EXPECT_FLOAT_EQ(stats.heads[0].mean[0], 0.3F);
    EXPECT_FLOAT_EQ(stats.heads[0].mean[1], 0.45F);
    EXPECT_NEAR(stats.heads[0].variance[0], 0.08, 1e-7);  // (0.2^2 + 0.2^2) / (2 - 1)
    EXPECT_NEAR(stats.heads[0].variance[1], 0.08, 1e-7);
    EXPECT_NEAR(stats.shift, 0.16, 1e-7);
    // -(0.5 ln 0.5 + 0.25 ln 0.25 + 0.1 ln 0.1 + 0.65 ln 0.65); the window's own key adds nothing.
    EXPECT_NEAR(stats.dispersion, 0.346574 + 0.346574 + 0.230259 + 0.280009, 2e-6);
}

TEST(AttentionStats, UniformAttentionSpreadsAndNeverShifts) {
    auto stats = one_kv_head(1, 4);
    const std::vector<float> attention(3 * 8, 0.125F);  // 3 queries over 8 keys, half of them outside the window
    add_head(stats, 0, attention, 3, 2);
    EXPECT_NEAR(stats.dispersion, 3 * 4 * 0.125 * std::log(8.0), 1e-6);
    EXPECT_EQ(stats.shift, 0);
    EXPECT_EQ(stats.heads[0].mean, std::vector<float>(4, 0.125F));
    EXPECT_EQ(stats.heads[0].variance, std::vector<float>(4, 0.0F));
}

TEST(AttentionStats, AttentionOnOneKeyNeitherSpreadsNorShifts) {
    auto stats = one_kv_head(1, 3);
    const std::vector<float> attention = {0, 1, 0, 0, 0, 1, 0, 0};
    add_head(stats, 0, attention, 2, 1);
    EXPECT_EQ(stats.dispersion, 0);
    EXPECT_EQ(stats.shift, 0);
    EXPECT_EQ(stats.heads[0].mean, (std::vector<float>{0, 1, 0}));
}

TEST(AttentionStats, AttentionThatJumpsShiftsWithoutSpreading) {
    auto stats = one_kv_head(1, 2);
    const std::vector<float> attention = {1, 0, 0, 1};
    add_head(stats, 0, attention, 2, 1);
    EXPECT_EQ(stats.dispersion, 0);
    EXPECT_EQ(stats.shift, 1);
    EXPECT_EQ(stats.heads[0].variance, (std::vector<float>{0.5F, 0.5F}));
}

TEST(AttentionStats, TheVarianceOfASingleQueryIsZero) {
    auto stats = one_kv_head(1, 3);
    const std::vector<float> attention = {0.125F, 0.5F, 0.25F, 0.125F};
    add_head(stats, 0, attention, 1, 0);
    EXPECT_EQ(stats.shift, 0);
    EXPECT_EQ(stats.heads[0].variance, std::vector<float>(3, 0.0F));
    EXPECT_EQ(stats.heads[0].mean, (std::vector<float>{0.125F, 0.5F, 0.25F}));
    EXPECT_NEAR(stats.dispersion, 0.125 * std::log(8.0) + 0.5 * std::log(2.0) + 0.25 * std::log(4.0), 1e-6);
}

TEST(AttentionStats, HeadsStandApartAndTheSumsAreOverAllOfThem) {
    auto stats = one_kv_head(2, 2);
    add_head(stats, 1, std::vector<float>{1, 0, 0, 1}, 2, 1);
    add_head(stats, 0, std::vector<float>{0.5F, 0.5F, 0.5F, 0.5F}, 2, 1);
    EXPECT_EQ(stats.heads[0].mean, (std::vector<float>{0.5F, 0.5F, 0.5F, 0.5F}));
    EXPECT_EQ(stats.heads[0].variance, (std::vector<float>{0, 0, 0.5F, 0.5F}));
    EXPECT_EQ(stats.shift, 1);
    EXPECT_NEAR(stats.dispersion, 4 * 0.5 * std::log(2.0), 1e-6);
}

TEST(AttentionStats, TheLastQueryIsTheNewestWhereverItsRowIs) {
    auto stats = one_kv_head(2, 2);
    add_head(stats, 0, std::vector<float>{0.5F, 0.25F, 0.25F, 0.125F, 0.375F, 0.5F}, 2, 0);
    add_head(stats, 1, std::vector<float>{0.5F, 0.25F, 0.25F, 0.125F, 0.375F, 0.5F}, 2, 1);
    EXPECT_EQ(stats.heads[0].last, (std::vector<float>{0.5F, 0.25F, 0.125F, 0.375F}));
}

TEST(AttentionStats, KvHeadsMayHoldUnequallyManyKeys) {
    const std::vector<int64_t> n_keys = {1, 3};
    AttentionStats stats(4, n_keys);
    add_head(stats, 1, std::vector<float>{0.75F, 0.25F}, 1, 0);
    add_head(stats, 2, std::vector<float>{0.5F, 0.125F, 0.25F, 0.125F}, 1, 0);
    EXPECT_EQ(stats.n_group, 2);
    EXPECT_EQ(stats.heads[0].mean, (std::vector<float>{0, 0.75F}));
    EXPECT_EQ(stats.heads[1].mean, (std::vector<float>{0.5F, 0.125F, 0.25F, 0, 0, 0}));
}

TEST(AttentionStats, AWindowThatIsTheWholePromptLeavesNothing) {
    auto stats = one_kv_head(1, 0);
    add_head(stats, 0, std::vector<float>{1, 0, 0.5F, 0.5F}, 2, 1);
    EXPECT_EQ(stats.dispersion, 0);
    EXPECT_EQ(stats.shift, 0);
    EXPECT_TRUE(stats.heads[0].mean.empty());
}

TEST(AttentionStats, AgreeWithDoublePrecisionOnRandomRows) {
    for (uint64_t seed = 1; seed <= 40; seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        std::mt19937_64 random(seed);
        const size_t n_queries = 1 + random() % 33;
        const size_t n_total = n_queries + random() % 700;
        const size_t n_keys = n_total - n_queries;
        const int32_t n_head = 1 + static_cast<int32_t>(random() % 4);
        auto stats = one_kv_head(n_head, static_cast<int64_t>(n_keys));
        double dispersion = 0;
        double shift = 0;
        for (int32_t head = 0; head < n_head; head++) {
            const auto attention = random_softmax(random, n_total, n_queries, 0.1 + static_cast<double>(random() % 5));
            add_head(stats, head, attention, static_cast<int32_t>(n_queries), static_cast<int32_t>(n_queries) - 1);
            for (size_t j = 0; j < n_keys; j++) {
                double mean = 0;
                double variance = 0;
                for (size_t i = 0; i < n_queries; i++) mean += attention[i * n_total + j];
                mean /= static_cast<double>(n_queries);
                for (size_t i = 0; i < n_queries; i++) {
                    const double a = attention[i * n_total + j];
                    variance += (a - mean) * (a - mean);
                    if (a > 0) dispersion -= a * std::log(a);
                }
                variance = n_queries > 1 ? variance / static_cast<double>(n_queries - 1) : 0.0;
                shift += variance;
                const size_t at = static_cast<size_t>(head) * n_keys + j;
                ASSERT_NEAR(stats.heads[0].mean[at], mean, 2e-6 * mean);
                // The last term allows for the mean's rounding to float32, which enters squared differences.
                ASSERT_NEAR(stats.heads[0].variance[at], variance, 1e-5 * variance + 1e-12 * mean * mean);
            }
        }
        EXPECT_NEAR(stats.dispersion, dispersion, 1e-6 * dispersion);
        EXPECT_NEAR(stats.shift, shift, 1e-5 * shift);
    }
}

TEST(WindowAttention, IsTheSoftmaxOfScaledProducts) {
    const float ln2 = std::log(2.0F);
    const float ln3 = std::log(3.0F);
    const std::vector<float> q = {2, 0, 0, 0};  // divided by sqrt(4)
    const std::vector<float> k = {ln2, 5, 5, 5, 0, 1, 2, 3, ln3, 0, 0, 0};
    const auto attention = window_attention(q, k, 4, 1);
    ASSERT_EQ(attention.size(), 3U);
    EXPECT_NEAR(attention[0], 2.0 / 6, 1e-6);
    EXPECT_NEAR(attention[1], 1.0 / 6, 1e-6);
    EXPECT_NEAR(attention[2], 3.0 / 6, 1e-6);
}

TEST(WindowAttention, QueriesSeeNoLaterKeys) {
    const std::vector<float> q = {0, 0, 0};         // 3 queries of dimension 1
    const std::vector<float> k = {9, -9, 4, 1, 8};  // 5 keys
    const auto attention = window_attention(q, k, 1, 3);
    const float third = 1.0F / 3;
    EXPECT_EQ(attention, (std::vector<float>{third, third, third, 0, 0,      //
                                             0.25F, 0.25F, 0.25F, 0.25F, 0,  //
                                             0.2F, 0.2F, 0.2F, 0.2F, 0.2F}));
}

TEST(WindowAttention, HugeProductsStayFinite) {
    const auto attention = window_attention(std::vector<float>{1e18F}, std::vector<float>{1e18F, -1e18F, 1e18F}, 1, 1);
    EXPECT_EQ(attention, (std::vector<float>{0.5F, 0, 0.5F}));
}

}  // namespace
}  // namespace cake
