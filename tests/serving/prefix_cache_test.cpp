#include "serving/prefix_cache.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

#include "engine/engine_state.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

class PrefixCacheOf : public testing::Test {
  protected:
    /// A sequence that holds `tokens`, of which the first `n_prompt` were its prompt.
    CachedSequence sequence(const std::string& id, std::vector<Token> tokens, size_t n_prompt) {
        auto state = make_sequence(EngineAccess::state(engine), options);
        if (!state) throw std::runtime_error(state.error().message);
        (*state)->progress.n_tokens = static_cast<int64_t>(tokens.size());
        (*state)->next.logits = {1, 2, 3};
        if (!(*state)->open_cache({.tokens_per_layer = 64, .slack = 2})) throw std::runtime_error("no cache");
        return {.id = id,
                .salt = {},
                .state = std::move(*state),
                .tokens = std::move(tokens),
                .n_prompt = n_prompt,
                .tokens_per_layer = 64,
                .kv_bytes = 100};
    }
    void keep(const std::string& id, std::vector<Token> tokens, size_t n_prompt) {
        cache.keep(sequence(id, std::move(tokens), n_prompt));
    }
    /// The ID of the sequence that a prompt takes out; empty if there is none.
    std::string taken(const std::vector<Token>& prompt) {
        const auto found = cache.take(options, prompt);
        return found ? found->id : "";
    }

    Engine engine = test::load("f32");
    SequenceOptions options{.budget = TokensPerLayer{64}, .window = 8};
    PrefixCache cache;
};

TEST_F(PrefixCacheOf, TakesTheSequenceWithTheLongestCommonBeginning) {
    keep("short", {1, 2}, 2);
    keep("long", {1, 2, 3, 4}, 4);
    keep("other", {9, 2, 3}, 3);
    EXPECT_EQ(taken({1, 2, 3, 4, 5}), "long");
    EXPECT_EQ(cache.size(), 2U) << "what is taken is taken out";
    EXPECT_EQ(taken({1, 2, 3, 4, 5}), "short");
    EXPECT_EQ(taken({1, 2, 3, 4, 5}), "");
    EXPECT_EQ(cache.size(), 1U);
}

/// A short first turn about a document, whose text is at hand in any case.
TEST_F(PrefixCacheOf, ContinuesAWholeConversationButDoesNotCutOneForAFewTokens) {
    keep("turn", {1, 2, 3, 4}, 4);
    EXPECT_FALSE(cache.take(options, std::vector<Token>{1, 2, 3, 9, 9}, {}, 2));
    EXPECT_FALSE(cache.take(options, std::vector<Token>{1, 2, 3, 4, 5}, {}, 4)) << "there is nothing to gain";
    const auto whole = cache.take(options, std::vector<Token>{1, 2, 3, 4, 5}, {}, 3);
    ASSERT_TRUE(whole);
    EXPECT_EQ(whole->tokens, (std::vector<Token>{1, 2, 3, 4}));
}

TEST_F(PrefixCacheOf, OnePromptTokenMustBeLeft) {
    keep("whole", {1, 2, 3}, 3);
    const auto same = cache.take(options, std::vector<Token>{1, 2, 3});
    ASSERT_TRUE(same);
    EXPECT_EQ(same->tokens, (std::vector<Token>{1, 2}));
}

TEST_F(PrefixCacheOf, APromptIsCutToThePartThatIsShared) {
    keep("prompt of four", {1, 2, 3, 4, 5}, 4);
    const auto cut = cache.take(options, std::vector<Token>{1, 2, 3, 9, 9, 9});
    ASSERT_TRUE(cut);
    EXPECT_EQ(cut->tokens, (std::vector<Token>{1, 2, 3}));
}

TEST_F(PrefixCacheOf, TheSmallerPartOfASequenceIsNotTaken) {
    keep("long", {1, 2, 3, 4, 5, 6, 7}, 6);
    EXPECT_EQ(taken({1, 2, 3, 9, 9, 9}), "");
    EXPECT_EQ(taken({1, 2, 3, 4, 9, 9}), "long");
}

TEST_F(PrefixCacheOf, APromptIsNotCutBehindWhatWasEvicted) {
    auto evicted = sequence("evicted", {1, 2, 3, 4, 5}, 4);
    evicted.state->progress.n_settled = 4;
    cache.keep(std::move(evicted));
    EXPECT_EQ(taken({1, 2, 3, 9, 9}), "");
    EXPECT_EQ(taken({1, 2, 3, 4}), "");
    EXPECT_EQ(taken({1, 2, 3, 4, 9}), "evicted");
}

TEST_F(PrefixCacheOf, AnotherSaltFindsNothing) {
    auto salted = sequence("salted", {1, 2, 3}, 3);
    salted.salt = "mine";
    cache.keep(std::move(salted));
    const std::vector<Token> prompt{1, 2, 3, 4};
    EXPECT_FALSE(cache.take(options, prompt));
    EXPECT_FALSE(cache.take(options, prompt, "yours"));
    EXPECT_TRUE(cache.take(options, prompt, "mine"));
}

TEST_F(PrefixCacheOf, AnAnswerIsCutToThePartThatThePromptRepeats) {
    keep("answered", {1, 2, 3, 4, 5, 6}, 3);
    const auto cut = cache.take(options, std::vector<Token>{1, 2, 3, 4, 9, 9});
    ASSERT_TRUE(cut);
    EXPECT_EQ(cut->tokens, (std::vector<Token>{1, 2, 3, 4}));
    EXPECT_EQ(cut->state->progress.n_tokens, 4);
}

TEST_F(PrefixCacheOf, AnAnswerIsNotCutBehindWhatWasEvicted) {
    auto evicted = sequence("evicted", {1, 2, 3, 4, 5, 6}, 3);
    evicted.state->progress.n_settled = 5;
    cache.keep(std::move(evicted));
    EXPECT_EQ(taken({1, 2, 3, 4, 9, 9}), "");
    EXPECT_EQ(taken({1, 2, 3, 4, 5, 9}), "evicted");
}

TEST_F(PrefixCacheOf, OtherOptionsCannotContinue) {
    keep("mine", {1, 2, 3}, 3);
    auto other = options;
    other.policy = "snapkv";
    EXPECT_FALSE(cache.take(other, std::vector<Token>{1, 2, 3, 4}));
}

TEST_F(PrefixCacheOf, TheOldestIsTheLeastRecentlyUsed) {
    keep("first", {1, 2}, 2);
    keep("second", {3, 4}, 2);
    auto again = cache.take(options, std::vector<Token>{1, 2, 5});
    ASSERT_TRUE(again);
    cache.keep(std::move(*again));
    EXPECT_EQ(cache.kv_bytes(), 200U);
    EXPECT_EQ(cache.take_oldest().id, "second");
    EXPECT_EQ(cache.take_oldest().id, "first");
    EXPECT_TRUE(cache.empty());
}

TEST_F(PrefixCacheOf, WhatOnlyDecodingNeedsIsFreed) {
    keep("kept", {1, 2}, 2);
    EXPECT_TRUE(cache.begin()->state->next.logits.empty());
}

}  // namespace
}  // namespace cake
