#include "method/policy.hpp"

#include <gtest/gtest.h>

namespace cake {
namespace {

TEST(Policies, PairTheScorerAndTheAllocatorThatThePaperCompares) {
    struct Expected {
        std::string_view policy, scorer, allocator;
    };
    for (const auto& [policy, scorer, allocator] :
         {Expected{"cake", "cake", "preference"},  //
          Expected{"snapkv", "snapkv", "uniform"}, Expected{"pyramidkv", "snapkv", "pyramid"},
          Expected{"h2o", "h2o", "uniform"}, Expected{"tova", "tova", "uniform"}, Expected{"knorm", "knorm", "uniform"},
          Expected{"keydiff", "keydiff", "uniform"}, Expected{"ada-snapkv", "snapkv", "adaptive-heads"},
          Expected{"streaming-llm", "streaming-llm", "uniform"}, Expected{"lava", "lava", "entropy"},
          Expected{"dropkv", "dropkv", "uniform"}, Expected{"criticalkv", "criticalkv", "uniform"},
          Expected{"critical-adakv", "criticalkv", "adaptive-heads"},
          Expected{"defensivekv", "defensivekv", "layer-top-k"},
          Expected{"layer-defensivekv", "defensivekv", "model-top-k"},
          Expected{"expected-attention", "expected-attention", "adaptive-heads"},
          Expected{"kvzip", "kvzip", "model-top-k"}, Expected{"kvzip+", "kvzip+", "model-top-k"},
          Expected{"r-kv", "snapkv", "uniform"}}) {
        SCOPED_TRACE(policy);
        const auto* found = find_policy(policy);
        ASSERT_NE(found, nullptr);
        ASSERT_NE(found->scorer, nullptr);
        ASSERT_NE(found->allocator, nullptr);
        EXPECT_EQ(found->scorer, find_scorer(scorer));
        EXPECT_EQ(found->allocator, find_allocator(allocator));
    }
}

TEST(Policies, FullHasNeitherBecauseItEvictsNothing) {
    const auto* full = find_policy("full");
    ASSERT_NE(full, nullptr);
    EXPECT_EQ(full->scorer, nullptr);
    EXPECT_EQ(full->allocator, nullptr);
}

TEST(Policies, HaveBothHalvesOrNeither) {
    for (const auto& policy : policies()) {
        SCOPED_TRACE(policy.name);
        EXPECT_EQ(policy.scorer == nullptr, policy.allocator == nullptr);
        EXPECT_FALSE(policy.summary.empty());
        EXPECT_EQ(find_policy(policy.name), &policy);
    }
}

TEST(Policies, ScoreAnAnswerWithAScorerThatNeedsNoWholeText) {
    const auto decode_scorer = [](const PolicyNames& names) {
        const auto policy = resolve_policy(names);
        return policy && policy->decode_scorer != nullptr ? policy->decode_scorer->name : std::string();
    };
    EXPECT_EQ(decode_scorer({.policy = "cake"}), "cake");
    EXPECT_EQ(decode_scorer({.policy = "h2o"}), "h2o");
    EXPECT_EQ(decode_scorer({.policy = "r-kv"}), "r-kv");
    EXPECT_EQ(decode_scorer({.policy = "r-kv", .allocator = "preference"}), "r-kv");
    EXPECT_EQ(decode_scorer({.policy = "r-kv", .scorer = "tova"}), "tova");
    for (const auto* policy : {"kvzip", "kvzip+", "expected-attention", "layer-defensivekv", "criticalkv+h2o:uniform"})
        EXPECT_EQ(decode_scorer({.policy = policy}), "snapkv") << policy;
    EXPECT_EQ(decode_scorer({.policy = "full"}), "");
}

TEST(Policies, AnyScorerCanBeRankedInCriticalOrder) {
    const auto policy = resolve_policy({.policy = "criticalkv+cake:preference"});
    ASSERT_TRUE(policy) << policy.error().message;
    EXPECT_EQ(policy->scorer->name, "criticalkv+cake");
    EXPECT_TRUE(policy->scorer->reads.output_norms);
    EXPECT_EQ(policy->scorer, find_scorer("criticalkv+cake")) << "made once";
    EXPECT_FALSE(resolve_policy({.policy = "criticalkv+none:uniform"}));
    EXPECT_FALSE(resolve_policy({.policy = "criticalkv+:uniform"}));
    EXPECT_FALSE(resolve_policy({.policy = "criticalkv+criticalkv+cake:uniform"}));
}

TEST(Policies, AnUnknownNameIsNone) {
    EXPECT_EQ(find_policy("Cake"), nullptr);
    EXPECT_EQ(find_policy(""), nullptr);
}

}  // namespace
}  // namespace cake
