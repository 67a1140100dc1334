#include "cake/sequence.hpp"

#include <gtest/gtest.h>

#include <future>

#include "cake/engine.hpp"
#include "cake/made_up.hpp"
#include "support/llama_reference.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

using test::append;
using test::full;
using test::load;
using test::mean_kl;
using test::start;

std::vector<float> logits(const Sequence& sequence) {
    return {sequence.logits().begin(), sequence.logits().end()};
}

TEST(Prefill, ChunksOfAnySizeGiveTheSameLogits) {
    const auto whole = load("f32");
    const auto tokens = test::sample_tokens(whole, 300);
    auto reference = start(whole, full(300));
    append(reference, tokens);
    for (const int32_t n_batch : {1, 7, 31, 64, 299}) {
        SCOPED_TRACE(n_batch);
        const auto engine = load("f32", n_batch);
        auto sequence = start(engine, full(300));
        append(sequence, tokens);
        EXPECT_LT(mean_kl(reference.logits(), sequence.logits(), sequence.logits().size()), 1e-6);
    }
}

TEST(Prefill, TheLastLogitsAreThoseOfAllLogits) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 100);
    auto last = start(engine, full(100));
    append(last, tokens);
    auto all = start(engine, full(100));
    ASSERT_TRUE(all.append(tokens, {.progress = {}, .all_logits = true}));
    const auto n_vocab = static_cast<size_t>(engine.info().n_vocab);
    ASSERT_EQ(all.logits().size(), n_vocab * 100);
    EXPECT_LT(mean_kl(last.logits(), all.logits().last(n_vocab), n_vocab), 1e-7);
}

TEST(Decode, TokenByTokenIsThePrefillOfAll) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 60);
    auto at_once = start(engine, full(60));
    append(at_once, tokens);
    auto one_by_one = start(engine, full(60));
    append(one_by_one, std::span(tokens).first(20));
    for (const Token token : std::span(tokens).subspan(20)) ASSERT_TRUE(one_by_one.decode(token));
    EXPECT_LT(mean_kl(at_once.logits(), one_by_one.logits(), at_once.logits().size()), 1e-6);
}

TEST(Append, SegmentsOfAFullCacheAreTheWholeText) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 200);
    auto at_once = start(engine, full(200));
    append(at_once, tokens);
    auto in_parts = start(engine, full(200));
    append(in_parts, std::span(tokens).first(90));
    append(in_parts, std::span(tokens).subspan(90, 5));
    append(in_parts, std::span(tokens).subspan(95));
    EXPECT_LT(mean_kl(at_once.logits(), in_parts.logits(), at_once.logits().size()), 1e-6);
}

TEST(Append, ABudgetThatHoldsThePromptEvictsNothing) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 128);
    auto reference = start(engine, full(200));
    append(reference, tokens);
    auto sequence =
        start(engine, {.policy = "cake", .budget = TokensPerLayer{128}, .cache_type_k = "f32", .cache_type_v = "f32"});
    append(sequence, tokens);
    EXPECT_EQ(logits(reference), logits(sequence));
    for (const auto& layer : sequence.layers()) EXPECT_EQ(layer.kept, 128);
}

TEST(Append, InSegmentsOfAFullCacheIsTheWholeText) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 200);
    auto at_once = start(engine, full(200));
    append(at_once, tokens);
    for (const int64_t segment : {1, 7, 64, 199, 200, 500}) {
        SCOPED_TRACE(segment);
        auto in_segments = start(engine, full(200));
        int64_t last = 0;
        const auto read = in_segments.append(tokens, {.progress =
                                                          [&](int64_t done, int64_t total) {
                                                              EXPECT_GE(done, last);
                                                              EXPECT_EQ(total, 200);
                                                              last = done;
                                                              return true;
                                                          },
                                                      .segment = segment});
        ASSERT_TRUE(read) << read.error().message;
        EXPECT_EQ(last, 200);
        EXPECT_LT(mean_kl(at_once.logits(), in_segments.logits(), at_once.logits().size()), 1e-6);
    }
    EXPECT_FALSE(start(engine, full(200)).append(tokens, {.segment = -1}));
    EXPECT_FALSE(start(engine, full(200)).append(tokens, {.all_logits = true, .segment = 10}));
}

TEST(Append, SegmentsAreTheSameWhoeverCutsThem) {
    const auto engine = load("f32", 64);
    const auto tokens = test::sample_tokens(engine, 700);
    const SequenceOptions options{.budget = TokensPerLayer{96}};
    auto by_option = start(engine, options);
    ASSERT_TRUE(by_option.append(tokens, {.segment = 150}));
    auto by_hand = start(engine, options);
    for (size_t begin = 0; begin < tokens.size(); begin += 150)
        append(by_hand, std::span(tokens).subspan(begin, std::min<size_t>(150, tokens.size() - begin)));
    EXPECT_EQ(logits(by_option), logits(by_hand));
    std::vector<Sequence> together;
    together.push_back(start(engine, {.policy = "h2o", .budget = TokensPerLayer{64}}));
    together.push_back(start(engine, options));
    ASSERT_TRUE(append_to_all(together, tokens, {.segment = 150}));
    EXPECT_EQ(logits(together[1]), logits(by_option));
}

TEST(Append, SeveralSequencesReadATextAsEachDoesAlone) {
    const auto engine = load("f32", 64);
    const auto tokens = test::sample_tokens(engine, 500);
    const std::vector<SequenceOptions> options = {{.policy = "streaming-llm", .budget = TokensPerLayer{64}},
                                                  {.policy = "full", .max_tokens = 600},
                                                  {.policy = "cake", .budget = TokensPerLayer{96}},
                                                  {.policy = "cake", .budget = TokensPerLayer{64}},
                                                  {.policy = "cake:uniform", .budget = TokensPerLayer{96}},
                                                  {.policy = "pyramidkv", .budget = TokensPerLayer{600}}};
    std::vector<Sequence> together;
    for (const auto& o : options) together.push_back(start(engine, o));
    const auto read = append_to_all(together, tokens);
    ASSERT_TRUE(read) << read.error().message;
    for (size_t i = 0; i < options.size(); i++) {
        SCOPED_TRACE(i);
        auto alone = start(engine, options[i]);
        append(alone, tokens);
        EXPECT_EQ(together[i].n_tokens(), 500);
        EXPECT_EQ(logits(together[i]), logits(alone));
        for (int n = 0; n < 40; n++) {
            ASSERT_TRUE(alone.decode(tokens[static_cast<size_t>(n)]));
            ASSERT_TRUE(together[i].decode(tokens[static_cast<size_t>(n)]));
        }
        EXPECT_EQ(logits(together[i]), logits(alone));
        for (size_t layer = 0; layer < alone.layers().size(); layer++) {
            EXPECT_EQ(together[i].layers()[layer].kept, alone.layers()[layer].kept);
            EXPECT_EQ(together[i].layers()[layer].preference.has_value(), alone.layers()[layer].preference.has_value());
        }
    }
    EXPECT_FALSE(append_to_all(together, tokens)) << "they are not empty any more";
    EXPECT_FALSE(append_to_all({}, tokens));
    std::vector<Sequence> unlike;
    unlike.push_back(start(engine, {.window = 16}));
    unlike.push_back(start(engine, {.window = 17}));
    EXPECT_FALSE(append_to_all(unlike, tokens));
}

TEST(Engine, SequencesOnSeveralThreadsGiveWhatTheyGiveAlone) {
    const auto engine = load("f32", 64);
    const auto tokens = test::sample_tokens(engine, 300);
    const auto work = [&] {
        auto sequence = start(engine, {.budget = TokensPerLayer{64}});
        append(sequence, tokens);
        for (int i = 0; i < 20; i++) EXPECT_TRUE(sequence.decode(tokens[static_cast<size_t>(i)]));
        return logits(sequence);
    };
    const auto alone = work();
    std::vector<std::future<std::vector<float>>> threads;
    for (int i = 0; i < 3; i++) threads.push_back(std::async(std::launch::async, work));
    for (auto& thread : threads) EXPECT_EQ(thread.get(), alone);
}

TEST(Append, InSegmentsTakesAShareOfTheWholeTextAndRefusesBeforeReadingAny) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 800);
    auto sequence = start(engine, {.budget = KvRatio{0.25}});
    ASSERT_TRUE(sequence.append(tokens, {.segment = 100}));
    EXPECT_EQ(sequence.memory().budget_tokens_per_layer, 200);

    auto bounded = start(engine, full(500));
    EXPECT_FALSE(bounded.append(tokens, {.segment = 100}));
    EXPECT_EQ(bounded.n_tokens(), 0);
    EXPECT_TRUE(bounded.append(std::span(tokens).first(500), {.segment = 100}));

    auto stopped = start(engine, {.budget = TokensPerLayer{64}});
    EXPECT_FALSE(
        stopped.append(tokens, {.progress = [](int64_t done, int64_t) { return done < 300; }, .segment = 100}));
    EXPECT_FALSE(stopped.append(tokens)) << "a part of the text has been read";
    EXPECT_TRUE(test::generate(stopped, 5).empty()) << "nor is there an answer";
    EXPECT_EQ(stopped.finish_reason(), FinishReason::failed);
}

TEST(Append, ToSeveralThatFailsForOneLeavesAllAsTheyWere) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 100);
    std::vector<Sequence> sequences;
    sequences.push_back(start(engine, {.budget = KvRatio{0.5}}));
    sequences.push_back(start(engine, full(50)));
    EXPECT_FALSE(append_to_all(sequences, tokens));
    for (auto& sequence : sequences) {
        ASSERT_TRUE(sequence.decode(tokens[0]));
        EXPECT_EQ(sequence.n_tokens(), 1);
    }
    EXPECT_EQ(sequences[0].memory().budget_tokens_per_layer, 32) << "of the one token, not of the text";
}

TEST(MakeUp, IsAsDeepAsASequenceThatReadAndGoesOn) {
    const auto engine = load("f32");
    for (const auto* policy : {"cake", "full", "h2o", "ada-snapkv"}) {
        SCOPED_TRACE(policy);
        SequenceOptions options{.policy = policy, .max_tokens = 700};
        if (std::string_view(policy) != "full") options.budget = TokensPerLayer{64};
        auto sequence = start(engine, options);
        EXPECT_FALSE(make_up(sequence, 0));
        const auto made = make_up(sequence, 500);
        ASSERT_TRUE(made) << made.error().message;
        EXPECT_EQ(sequence.n_tokens(), 500);
        EXPECT_FALSE(make_up(sequence, 5)) << "it is not empty";
        auto read = start(engine, options);
        append(read, test::sample_tokens(engine, 500));
        EXPECT_NEAR(
            static_cast<double>(sequence.memory().kv_bytes_now) / static_cast<double>(read.memory().kv_bytes_now), 1,
            0.1);
        for (int i = 0; i < 100; i++) ASSERT_TRUE(sequence.decode(5));
        append(sequence, test::sample_tokens(engine, 50));
        EXPECT_LE(sequence.memory().kv_bytes_now, sequence.memory().kv_bytes_budget);
    }
}

TEST(Append, RefusesNothingAndTokensOutsideTheVocabulary) {
    const auto engine = load("f32");
    auto sequence = start(engine, {});
    EXPECT_FALSE(sequence.append({}));
    const std::vector<Token> outside{1, engine.info().n_vocab};
    EXPECT_FALSE(sequence.append(outside));
    const std::vector<Token> negative{-1};
    EXPECT_FALSE(sequence.append(negative));
}

TEST(Append, ACancelledTextCanNotGoOn) {
    const auto engine = load("f32", 16);
    const auto tokens = test::sample_tokens(engine, 100);
    auto sequence = start(engine, {});
    EXPECT_FALSE(sequence.append(tokens, {.progress = [](int64_t, int64_t) { return false; }}));
    EXPECT_FALSE(sequence.append(tokens));
}

TEST(Options, WrongOnesAreRefusedByName) {
    const auto engine = load("f32");
    const auto refused = [&](const SequenceOptions& options, const std::string& part) {
        const auto sequence = engine.sequence(options);
        ASSERT_FALSE(sequence);
        EXPECT_NE(sequence.error().message.find(part), std::string::npos) << sequence.error().message;
    };
    refused({.policy = "nosuch"}, "pyramidkv");
    refused({.scorer = "nosuch"}, "streaming-llm");
    refused({.allocator = "nosuch"}, "pyramid");
    refused({.policy = "full", .scorer = "cake"}, "allocator");
    refused({.policy = "cake:nosuch"}, "pyramid");
    refused({.policy = "nosuch:uniform"}, "snapkv");
    refused({.policy = "full", .budget = TokensPerLayer{64}}, "keeps everything");
    refused({.window = 0}, "window");
    refused({.window = 1025}, "1024");
    refused({.gamma = -1}, "gamma");
    refused({.pool_kernel = 4}, "odd");
    refused({.pool_kernel = -1}, "pooling");
    refused({.tau1 = 0}, "tau1");
    refused({.cache_type_k = "q3"}, "q8_0");
    refused({.budget = TokensPerLayer{0}}, "at least 32");
    refused({.budget = KvBytes{1}}, "bytes");
}

}  // namespace
}  // namespace cake
