#include "memory/plan.hpp"

#include <gtest/gtest.h>

#include "support/cpu.hpp"

namespace cake {
namespace {

constexpr KvShape kShape = {
    .n_layer = 4, .n_head_kv = 2, .head_dim_k = 64, .head_dim_v = 64, .type_k = GGML_TYPE_F16, .type_v = GGML_TYPE_F16};
constexpr uint64_t kTokenBytes = uint64_t{2} * (64 + 64) * 2;  // bytes of a token in one layer

CacheLayout all_sliced() {
    CacheLayout layout{.sliced = kShape, .sliding = kShape, .sliced_layers = {0, 1, 2, 3}, .sliding_layers = {}};
    layout.sliding.n_layer = 0;
    return layout;
}

/// Layers 0 and 2 keep a sliding window of 160 tokens.
CacheLayout half_sliding() {
    CacheLayout layout{.sliced = kShape, .sliding = kShape, .sliced_layers = {1, 3}, .sliding_layers = {0, 2}};
    layout.sliced.n_layer = layout.sliding.n_layer = 2;
    layout.n_swa = 160;
    return layout;
}

constexpr CacheDemand kDemand = {.window = 32};

CacheDemand demand(Budget budget) {
    CacheDemand result = kDemand;
    result.budget = budget;
    return result;
}

TEST(Plan, TokensPerLayerAreTheBudgetAsStated) {
    const auto plan = plan_cache(all_sliced(), demand(TokensPerLayer{1000}), 1);
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_EQ(*plan,
              (CachePlan{.tokens_per_layer = 1000, .slack = 32, .sliding_tokens = 1, .shares = LayerShares::any}));
}

TEST(Plan, BytesAreOfAllLayersTogetherRoundedDown) {
    const auto plan = plan_cache(all_sliced(), demand(KvBytes{4 * kTokenBytes * 500 + 4 * kTokenBytes - 1}), 1);
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->tokens_per_layer, 500);
}

TEST(Plan, SlidingWindowsComeOutOfTheBytesAndBesideTheTokens) {
    const auto layout = half_sliding();
    EXPECT_EQ(layout.sliding_capacity(0), 170);  // the sliding window and a sixteenth of it
    EXPECT_EQ(layout.sliding_capacity(100), 100);
    EXPECT_TRUE(layout.is_sliding(2));
    EXPECT_FALSE(layout.is_sliding(3));
    const auto bytes = plan_cache(layout, demand(KvBytes{2 * kTokenBytes * (170 + 300)}), 1);
    ASSERT_TRUE(bytes);
    EXPECT_EQ(bytes->tokens_per_layer, 300);
    EXPECT_EQ(bytes->sliding_tokens, 170);
    EXPECT_EQ(planned_bytes(test::cpu_buffer_type(), layout, *bytes), 2 * kTokenBytes * (170 + 300));
    const auto tokens = plan_cache(layout, demand(TokensPerLayer{300}), 1);
    ASSERT_TRUE(tokens);
    EXPECT_EQ(tokens->tokens_per_layer, 300);
}

TEST(Plan, AShareIsOfTheFirstPromptAndAtLeastTheWindow) {
    EXPECT_EQ(plan_cache(all_sliced(), demand(KvRatio{0.05}), 10'000)->tokens_per_layer, 500);
    EXPECT_EQ(plan_cache(all_sliced(), demand(KvRatio{0.05}), 100)->tokens_per_layer, 32);
}

TEST(Plan, ABudgetBelowTheWindowIsRefusedWithTheOneThatWorks) {
    const auto plan = plan_cache(all_sliced(), demand(TokensPerLayer{31}), 1);
    ASSERT_FALSE(plan);
    EXPECT_EQ(plan.error().message,
              "a budget of 31 tokens a layer cannot hold the window of 32 tokens in 4 layers: use at least 32 tokens a "
              "layer, 65536 bytes, or a smaller --window");
    EXPECT_FALSE(check_budget(all_sliced(), demand(TokensPerLayer{31})));
    EXPECT_TRUE(check_budget(all_sliced(), demand(TokensPerLayer{32})));
}

TEST(Plan, TheIntervalLeavesHalfOfWhatIsWonByScore) {
    auto stated = demand(TokensPerLayer{132});
    EXPECT_EQ(plan_cache(all_sliced(), stated, 1)->slack, 6);  // a sixteenth of 100
    stated.evict_interval = 50;
    EXPECT_EQ(plan_cache(all_sliced(), stated, 1)->slack, 50);
    stated.evict_interval = 51;
    EXPECT_FALSE(plan_cache(all_sliced(), stated, 1));
}

TEST(Plan, ACacheThatKeepsEverythingHasTheContextThatIsStatedOrTrained) {
    CacheDemand full{.evicts = false, .window = 32, .max_tokens = 0, .n_ctx_train = 4096};
    EXPECT_EQ(plan_cache(all_sliced(), full, 100)->tokens_per_layer, 4096);
    EXPECT_EQ(plan_cache(all_sliced(), full, 5000)->tokens_per_layer, 5000);
    full.max_tokens = 200;
    EXPECT_EQ(plan_cache(all_sliced(), full, 100)->tokens_per_layer, 200);
    EXPECT_EQ(plan_cache(half_sliding(), full, 100)->sliding_tokens, 170);
    full.max_tokens = 150;
    EXPECT_EQ(plan_cache(half_sliding(), full, 100)->sliding_tokens, 150);
}

TEST(Plan, WhatIsLargerThanAnyMemoryIsRefused) {
    const auto plan = plan_cache(all_sliced(), demand(TokensPerLayer{int64_t{1} << 40}), 1);
    ASSERT_FALSE(plan);
    EXPECT_EQ(plan.error().message,
              "a budget of 1099511627776 tokens a layer is larger than any memory: use a smaller one");
    EXPECT_FALSE(plan_cache(all_sliced(), demand(TokensPerLayer{int64_t{1} << 62}), 1));
    EXPECT_FALSE(plan_cache(all_sliced(), demand(KvBytes{~uint64_t{0}}), 1));
}

}  // namespace
}  // namespace cake
