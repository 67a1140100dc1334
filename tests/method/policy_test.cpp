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
          Expected{"streaming-llm", "streaming-llm", "uniform"}}) {
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

TEST(Policies, AnUnknownNameIsNone) {
    EXPECT_EQ(find_policy("Cake"), nullptr);
    EXPECT_EQ(find_policy(""), nullptr);
}

}  // namespace
}  // namespace cake
