#include <gtest/gtest.h>

#include <ranges>

#include "engine/engine_state.hpp"
#include "serving/active_request.hpp"
#include "support/batchers.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

using namespace test;

TEST(Batcher, GoesOnFromWhatIsInMemory) {
    const auto engine = load("f32", 128);
    auto batcher = start(engine, small_options(2));
    const auto text = sample_tokens(engine, 700);
    auto first = greedy(*batcher, std::span(text).first(400), 50);
    first.reuse = true;
    const auto said = answer(*batcher, first);
    EXPECT_EQ(said.n_cached, 0);

    // The next turn repeats the prompt and the answer, whose last token has not been passed through the model yet.
    auto next = first;
    next.prompt.append_range(said.tokens());
    next.prompt.insert(next.prompt.end(), text.begin() + 400, text.end());
    auto sequence = test::start(engine, batcher->limits().sequence);
    test::append(sequence, first.prompt);
    for (size_t i = 0; i < 49; i++) ASSERT_TRUE(sequence.decode(said.drawn[i].token));
    test::append(sequence, std::span(next.prompt).subspan(449));
    const auto outcome = answer(*batcher, next);
    EXPECT_EQ(outcome.n_cached, 449);
    EXPECT_EQ(outcome.tokens(), test::generate(sequence, 50));

    // A prompt that is shorter than the cached one is prefilled from the start. So is a request without reuse.
    auto shorter = greedy(*batcher, std::span(text).first(300), 5);
    shorter.reuse = true;
    EXPECT_EQ(answer(*batcher, shorter).n_cached, 0);
    next.prompt.append_range(outcome.tokens());
    next.reuse = false;
    EXPECT_EQ(answer(*batcher, next).n_cached, 0);
}

TEST(Batcher, GoesOnFromAPartOfAnAnswerAsIfTheRestHadNotBeen) {
    const auto engine = load("f32", 128);
    auto options = small_options(2);
    options.pool.sequence.evict_interval = 24;
    auto batcher = start(engine, options);
    const auto text = sample_tokens(engine, 600);
    auto request = greedy(*batcher, std::span(text).first(400), 10);
    request.reuse = true;
    const auto said = answer(*batcher, request);
    auto next = request;
    next.prompt.append_range(said.tokens() | std::views::take(4));
    next.prompt.insert(next.prompt.end(), text.begin() + 500, text.begin() + 520);
    next.max_tokens = 60;
    auto sequence = test::start(engine, batcher->limits().sequence);
    test::append(sequence, request.prompt);
    for (size_t i = 0; i < 4; i++) ASSERT_TRUE(sequence.decode(said.drawn[i].token));
    test::append(sequence, std::span(text).subspan(500, 20));
    const auto outcome = answer(*batcher, next);
    EXPECT_EQ(outcome.n_cached, 404);
    EXPECT_EQ(outcome.tokens(), test::generate(sequence, 60));
    // After evictions during the answer, a prompt cannot continue from a part of it.
    auto late = next;
    late.prompt.append_range(outcome.tokens() | std::views::take(5));
    late.prompt.push_back(text[590]);
    EXPECT_EQ(answer(*batcher, late).n_cached, 0);
}

TEST(Batcher, GoesOnFromAPartOnlyOfAnAnswerThatIsNotYetInTheSums) {
    const auto engine = load("f32", 128);
    auto options = small_options(2);
    options.pool.sequence.policy = "h2o";
    options.pool.sequence.evict_interval = 24;
    auto batcher = start(engine, options);
    const auto text = sample_tokens(engine, 500);
    auto request = greedy(*batcher, std::span(text).first(400), 16);
    request.reuse = true;
    const auto cached_after = [&](size_t n_repeated) {
        const auto said = answer(*batcher, request);
        auto next = request;
        next.prompt.append_range(said.tokens() | std::views::take(n_repeated));
        next.prompt.insert(next.prompt.end(), text.begin() + 450, text.begin() + 470);
        return answer(*batcher, next).n_cached;
    };
    // The window is 8: the attention of generated tokens is added to the cumulative attention 8 tokens at a time.
    EXPECT_EQ(cached_after(3), 0);
    EXPECT_EQ(cached_after(12), 412);
}

TEST(Batcher, GoesOnWithAWindowOnlyWhereItIsStillThere) {
    const auto engine = load("gemma3", 128);
    auto batcher = start(engine, small_options(1));
    const auto text = sample_tokens(engine, 800);
    auto request = greedy(*batcher, std::span(text).first(500), 40);
    request.reuse = true;
    const auto said = answer(*batcher, request);
    // A prompt that continues the whole answer finds a complete sliding window. For a prompt that contains only a part
    // of the answer, the beginning of the sliding window has already been dropped.
    auto part = request;
    part.prompt.append_range(said.tokens() | std::views::take(2));
    part.prompt.push_back(text[700]);
    EXPECT_EQ(answer(*batcher, part).n_cached, 0);
    const auto again = answer(*batcher, request);
    EXPECT_EQ(again.tokens(), said.tokens());
    auto whole = request;
    whole.prompt.append_range(again.tokens());
    whole.prompt.push_back(text[700]);
    EXPECT_EQ(answer(*batcher, whole).n_cached, 539);
}

std::vector<Token> joined(std::span<const Token> a, std::span<const Token> b) {
    std::vector<Token> both(a.begin(), a.end());
    both.append_range(b);
    return both;
}

/// Nothing is evicted from less than 600 tokens.
BatcherOptions with_room() {
    auto options = small_options(2);
    options.pool.sequence.budget = TokensPerLayer{600};
    return options;
}

class Conversations : public testing::TestWithParam<std::string> {};

/// The second turn of a conversation, whose first is in memory, is answered as if all of it had just been read.
TEST_P(Conversations, AreAnsweredAsIfTheyHadJustBeenRead) {
    const auto engine = load(GetParam(), 128);
    const auto options = with_room();
    auto batcher = start(engine, options);
    const auto text = sample_tokens(engine, 400);
    auto request = greedy(*batcher, std::span(text).first(250), 16);
    request.reuse = true;
    request.prompt.append_range(answer(*batcher, request).tokens());
    request.prompt.append_range(std::span(text).subspan(250));
    const auto outcome = answer(*batcher, request);
    EXPECT_EQ(outcome.n_cached, 265) << "the last token of an answer has not been passed through the model";
    const auto alone = fresh_answer(engine, options, request);
    EXPECT_EQ(alone.n_cached, 0);
    EXPECT_EQ(outcome.tokens(), alone.tokens());
    EXPECT_EQ(batcher->report().n_evicted_tokens, 0);
}

INSTANTIATE_TEST_SUITE_P(All, Conversations, testing::ValuesIn(test::family_names()), family_test_name);

class Snapshots : public testing::TestWithParam<std::string> {};

/// Later prompts of a conversation may differ from the first in what the template put in front of the answer.
TEST_P(Snapshots, TakeRecurrentStatesBackToTheLastMessage) {
    const auto engine = load(GetParam(), 128);
    const auto options = with_room();
    auto batcher = start(engine, options);
    const auto text = sample_tokens(engine, 800);
    auto request = greedy(*batcher, std::span(text).first(300), 20);
    request.reuse = true;
    auto next = request;
    next.prompt = joined(std::span(text).first(290), std::span(text).subspan(500, 60));
    answer(*batcher, request);
    EXPECT_EQ(answer(*batcher, next).n_cached, 0) << "it is not known where the messages end";

    request.n_messages = next.n_messages = 290;
    answer(*batcher, request);
    const auto outcome = answer(*batcher, next);
    EXPECT_EQ(outcome.n_cached, 290);
    const auto alone = fresh_answer(engine, options, next);
    EXPECT_EQ(alone.n_cached, 0);
    EXPECT_EQ(outcome.tokens(), alone.tokens());
    EXPECT_EQ(outcome.logprobs(), alone.logprobs());
    EXPECT_EQ(answer(*batcher, next).n_cached, 290) << "more than once";

    // Where tokens were evicted, nothing can be taken back.
    auto large = request;
    large.prompt.assign(text.begin(), text.begin() + 700);
    large.n_messages = 690;
    answer(*batcher, large);
    large.prompt.resize(690);
    large.prompt.append_range(std::span(text).last(60));
    EXPECT_EQ(answer(*batcher, large).n_cached, 0);
    EXPECT_LE(batcher->report().kv_bytes_peak, batcher->report().kv_bytes_bound);
}

INSTANTIATE_TEST_SUITE_P(, Snapshots, testing::Values("qwen35-q8_0", "lfm2-q8_0", "falcon-h1-q8_0"), family_test_name);

/// A prompt whose first `n_prefix` tokens are a prefix.
GenerationRequest with_prefix(const Batcher& batcher, std::vector<Token> prompt, int64_t n_prefix) {
    auto request = greedy(batcher, prompt, 20);
    request.reuse = true;
    request.prefix = {.n_tokens = n_prefix, .may_evict = true};
    return request;
}

class Prefixes : public testing::TestWithParam<std::string> {};

TEST_P(Prefixes, AreReadOnceWhateverFollows) {
    const auto engine = load(GetParam(), 128);
    // Sliding windows and recurrent states cannot go back.
    const bool only_on = engine.info().n_swa_layers + engine.info().n_recurrent_layers > 0;
    const auto text = sample_tokens(engine, 1200);
    const auto prefix = std::span(text).first(320);
    const auto one = joined(prefix, std::span(text).subspan(400, 150));
    const auto other = joined(prefix, std::span(text).subspan(700, 300));
    for (const std::string policy : {"cake", "h2o", "snapkv", "full"}) {
        SCOPED_TRACE(policy);
        auto options = small_options(3);
        options.pool.sequence.policy = policy;
        if (policy == kFullPolicy) options.pool.sequence.budget.reset();
        auto batcher = start(engine, options);
        const auto first = answer(*batcher, with_prefix(*batcher, one, 320));
        EXPECT_EQ(first.n_cached, 0);
        const auto second = answer(*batcher, with_prefix(*batcher, other, 320));
        EXPECT_EQ(second.n_cached, 320);
        EXPECT_EQ(answer(*batcher, with_prefix(*batcher, one, 320)).n_cached,
                  policy == kFullPolicy && !only_on ? 469 : 320)
            << "nothing was evicted from the first conversation, of which more is shared";
        const auto alone = fresh_answer(engine, options, with_prefix(*batcher, other, 320));
        EXPECT_EQ(alone.n_cached, 0);
        auto sequence = test::start(engine, batcher->limits().sequence);
        test::append(sequence, prefix);
        test::append(sequence, std::span(other).subspan(320));
        EXPECT_EQ(alone.tokens(), test::generate(sequence, 20)) << "two texts";
        EXPECT_EQ(second.tokens(), alone.tokens()) << "a copied prefix answers as one that was just read";
        EXPECT_EQ(second.logprobs(), alone.logprobs());
        const auto report = batcher->report();
        EXPECT_LE(report.kv_bytes_peak, report.kv_bytes_bound);
        EXPECT_EQ(report.n_evicted_tokens > 0, policy != kFullPolicy);
    }
}

INSTANTIATE_TEST_SUITE_P(, Prefixes,
                         testing::Values("f32", "q8_0", "gemma3-q8_0", "gemma4-q8_0", "gpt-oss-q8_0", "deepseek2",
                                         "qwen35-q8_0", "falcon-h1-q8_0"),
                         family_test_name);

TEST(Prefix, IsThatOfItsSaltAndItsOptionsOnly) {
    const auto engine = load("f32", 128);
    auto batcher = start(engine, small_options(12));
    const auto text = sample_tokens(engine, 900);
    auto request = with_prefix(*batcher, text, 512);
    request.max_tokens = 1;
    answer(*batcher, request);
    request.prompt.back()++;
    auto other = request;
    other.cache_salt = "another client";
    EXPECT_EQ(answer(*batcher, other).n_cached, 0);
    other = request;
    other.sequence.policy = "snapkv";
    EXPECT_EQ(answer(*batcher, other).n_cached, 0);
    other = request;
    other.reuse = false;
    EXPECT_EQ(answer(*batcher, other).n_cached, 0);
    EXPECT_EQ(answer(*batcher, request).n_cached, 512);
}

TEST(Prefix, AsLongAsItMattersLittleTheAnswerIsThatToTheWholePrompt) {
    const auto engine = load("f32", 128);
    auto options = small_options(8);
    options.pool.sequence.budget = TokensPerLayer{600};
    auto batcher = start(engine, options);
    const auto text = sample_tokens(engine, 1200);
    auto request = with_prefix(*batcher, text, 288);
    request.prefix.may_evict = false;
    const auto read_apart = answer(*batcher, request);
    auto whole = greedy(*batcher, text, 20);
    EXPECT_EQ(read_apart.tokens(), answer(*batcher, whole).tokens());
    request.prompt.back()++;
    EXPECT_EQ(answer(*batcher, request).n_cached, 288);
    // More than half of the budget is kept only on demand.
    request.prefix.n_tokens = 320;
    answer(*batcher, request);
    request.prompt.back()++;
    EXPECT_EQ(answer(*batcher, request).n_cached, 0);
}

TEST(Prefix, OfACancelledRequestIsKnownToBeReadThatFar) {
    const auto engine = load("f32", 128);
    auto batcher = start(engine, small_options(2));
    const auto text = sample_tokens(engine, 600);
    auto request = with_prefix(*batcher, text, 512);
    auto state = make_sequence(EngineAccess::state(engine), request.sequence);
    ASSERT_TRUE(state);
    std::vector<CachedSequence> sequences;
    sequences.push_back({.id = "", .salt = "", .state = std::move(*state), .tokens = {}});
    ActiveRequest active(std::make_shared<const GenerationRequest>(request), std::make_shared<EventQueue>(1),
                         std::move(sequences), 512, 0);
    while (!active.is_at_prefix()) {
        ASSERT_TRUE(active.is_reading());
        active.read_on();
    }
    active.end_all(FinishReason::cancelled);
    const auto left = active.leave();
    EXPECT_EQ(left.front().tokens, std::vector<Token>(text.begin(), text.begin() + 512));
    EXPECT_EQ(left.front().state->progress.n_tokens, 512);
    EXPECT_FALSE(left.front().state->status.is_broken());
}

TEST(Prefix, TakesThePlaceOfAConversationOnlyIfItIsSeenAgain) {
    const auto engine = load("f32", 128);
    auto batcher = start(engine, small_options(2));
    const auto text = sample_tokens(engine, 1400);
    const auto request = [&](size_t end) {
        auto made = with_prefix(*batcher, joined(std::span(text).first(320), std::span(text).subspan(end, 80)), 320);
        made.max_tokens = 1;
        return made;
    };
    auto other = greedy(*batcher, std::span(text).subspan(900, 40), 1);
    other.reuse = true;
    answer(*batcher, other);
    auto next = greedy(*batcher, std::span(text).subspan(1000, 40), 1);
    next.reuse = true;
    answer(*batcher, next);
    EXPECT_EQ(answer(*batcher, request(400)).n_cached, 0);
    EXPECT_GT(answer(*batcher, next).n_cached, 0) << "the conversation is still there";
    EXPECT_EQ(answer(*batcher, request(500)).n_cached, 0);
    EXPECT_EQ(answer(*batcher, request(600)).n_cached, 320) << "seen again, it was kept";
}

TEST(Prefix, GivesWayToRunningRequests) {
    const auto engine = load("f32", 128);
    auto batcher = start(engine, small_options(1));
    const auto text = sample_tokens(engine, 900);
    for (int i = 0; i < 3; i++) {
        auto request = with_prefix(*batcher, text, 512);
        request.prompt.back() += i;
        const auto outcome = answer(*batcher, request);
        EXPECT_EQ(outcome.n_cached, 0) << "there is memory for one sequence only";
        EXPECT_EQ(outcome.reason, FinishReason::length);
    }
    const auto report = batcher->report();
    EXPECT_LE(report.kv_bytes_peak, report.kv_bytes_bound);
}

}  // namespace
}  // namespace cake
