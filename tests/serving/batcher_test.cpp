#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <ranges>

#include "support/batchers.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

using namespace test;

class Models : public testing::TestWithParam<std::string> {};

TEST_P(Models, AnswerAmongOthersToTheLastBitAsAlone) {
    const auto engine = load(GetParam(), 128);
    auto batcher = start(engine, small_options(6));
    const auto text = sample_tokens(engine, 1200);
    const auto request = [&](int i) {
        auto r =
            greedy(*batcher, std::span(text).subspan(static_cast<size_t>(37 * i), static_cast<size_t>(40 + 150 * i)),
                   40 + 5 * i);
        if (i % 3 == 1) r.sequence.policy = "snapkv";
        if (i % 3 == 2) r.sequence.policy = "h2o";
        return r;
    };
    std::vector<Outcome> alone;
    for (int i = 0; i < 6; i++) alone.push_back(answer(*batcher, request(i)));
    std::vector<std::shared_ptr<Generation>> together;
    for (int i = 0; i < 6; i++) together.push_back(submit(*batcher, request(i)));
    for (size_t i = 0; i < 6; i++) {
        SCOPED_TRACE(i);
        const auto outcome = collect(*together[i]).front();
        EXPECT_EQ(outcome.tokens(), alone[i].tokens());
        EXPECT_EQ(outcome.logprobs(), alone[i].logprobs());
        EXPECT_EQ(outcome.reason, FinishReason::length);
    }
    const auto report = batcher->report();
    EXPECT_LE(report.kv_bytes_peak, report.kv_bytes_bound);
    EXPECT_GT(report.n_evicted_tokens, 0);
}

INSTANTIATE_TEST_SUITE_P(, Models,
                         testing::Values("f32", "f16", "q8_0", "q4_0", "gemma3-q8_0", "gemma4-q8_0", "gpt-oss-q8_0",
                                         "mixtral-q8_0", "phi3-q8_0", "deepseek2-q8_0", "qwen35-q8_0", "lfm2-q8_0",
                                         "falcon-h1-q8_0"),
                         test::family_test_name);

TEST(Batcher, AnswersAsASequenceOfItsOwnDoes) {
    const auto engine = load("q8_0", 128);
    auto batcher = start(engine, small_options(2));
    const auto prompt = sample_tokens(engine, 500);
    auto sequence = test::start(engine, batcher->limits().sequence);
    test::append(sequence, prompt);
    EXPECT_EQ(answer(*batcher, greedy(*batcher, prompt, 60)).tokens(), test::generate(sequence, 60));
}

TEST(Batcher, AFullCacheHasRoomForAnAnswer) {
    const auto engine = load("f32", 128);
    auto batcher = start(engine, small_options(4));
    auto request = greedy(*batcher, sample_tokens(engine, 100), -1);
    request.sequence.policy = "full";
    request.sequence.budget.reset();
    const auto outcome = answer(*batcher, request);
    EXPECT_EQ(outcome.reason, FinishReason::length) << outcome.error;
    // A full cache may take the slots of all four sequences.
    EXPECT_EQ(outcome.drawn.size(), 4U * 64 - 100);
}

TEST(Batcher, AnswersEndAtStopStrings) {
    const auto engine = load("f32", 128);
    auto batcher = start(engine, small_options(2));
    auto request = greedy(*batcher, sample_tokens(engine, 100), 40);
    const auto whole = answer(*batcher, request);
    std::string text;
    for (size_t i = 0; i < 12; i++) text += engine.piece(whole.drawn[i].token);
    request.stop = {text.substr(text.size() - 3)};
    request.n_choices = 2;
    const auto stopped = collect(*submit(*batcher, request), 2);
    EXPECT_LE(stopped[0].drawn.size(), 12U);
    EXPECT_EQ(stopped[0].reason, FinishReason::end_of_generation);
    std::string said;
    for (const auto& drawn : stopped[0].drawn) said += engine.piece(drawn.token);
    EXPECT_TRUE(said.contains(request.stop[0]));
    EXPECT_EQ(said.find(request.stop[0]), text.find(request.stop[0]));
    EXPECT_EQ(stopped[1].tokens(), stopped[0].tokens());
}

TEST(Batcher, WithoutTokensToDrawThePromptIsReadAndStaysInMemory) {
    const auto engine = load("f32", 128);
    auto batcher = start(engine, small_options(2));
    const auto text = sample_tokens(engine, 300);
    for (const int32_t n_choices : {1, 2}) {
        auto request = greedy(*batcher, std::span(text).first(200), 0);
        request.n_choices = n_choices;
        for (const auto& outcome : collect(*submit(*batcher, request), n_choices)) {
            EXPECT_TRUE(outcome.drawn.empty());
            EXPECT_EQ(outcome.reason, FinishReason::length) << outcome.error;
        }
    }
    auto longer = greedy(*batcher, text, 5);
    longer.reuse = true;
    const auto outcome = answer(*batcher, longer);
    EXPECT_EQ(outcome.n_cached, 200);
    EXPECT_EQ(outcome.drawn.size(), 5U);
}

/// Combines everything that makes the staging layer large or irregular: segments, sliding windows, heads of different
/// lengths, several choices, turns.
TEST(Batcher, TheBoundHoldsHoweverPromptsAreRead) {
    for (const std::string model : {"f32", "gemma3", "gpt-oss"}) {
        for (const int64_t segment : {int64_t{0}, int64_t{100}}) {
            SCOPED_TRACE(fmt::format("{} segment {}", model, segment));
            const auto engine = load(model, 64);
            auto options = small_options(4);
            options.pool.segment = segment;
            options.pool.n_ctx = 1000;
            auto batcher = start(engine, options);
            const auto text = sample_tokens(engine, 990);
            std::vector<std::pair<std::shared_ptr<Generation>, int32_t>> all;
            for (size_t i = 0; i < 12; i++) {
                auto request = greedy(*batcher, std::span(text).first(900 - 70 * i), 30);
                request.reuse = i % 2 == 0;
                request.n_choices = i % 4 == 3 ? 3 : 1;
                // With segments, a head under ada-snapkv may hold more tokens than this pool provides for.
                if (i % 3 == 1) request.sequence.policy = segment == 0 ? "ada-snapkv" : "snapkv";
                if (i % 3 == 2) request.sequence.budget = TokensPerLayer{20};
                if (i == 11) {
                    request.sequence.policy = "full";
                    request.sequence.budget.reset();
                    request.prompt.resize(30);
                    request.max_tokens = 10;
                    request.n_choices = 1;
                }
                all.emplace_back(submit(*batcher, request), request.n_choices);
            }
            for (const auto& [generation, n_choices] : all)
                for (const auto& outcome : collect(*generation, n_choices)) EXPECT_EQ(outcome.error, "");
            const auto report = batcher->report();
            EXPECT_LE(report.kv_bytes_peak, report.kv_bytes_bound);
            EXPECT_LE(report.n_idle, 4);
            // All reserved memory has been returned, except for that of cached sequences.
            uint64_t idle_bytes = 0;
            for (const auto& slot : batcher->slots()) idle_bytes += slot.memory.kv_bytes_allocated;
            EXPECT_EQ(report.kv_bytes_now, idle_bytes);
            EXPECT_EQ(batcher->pool().stores_left(), batcher->pool().bytes_of_stores() - idle_bytes);
        }
    }
}

TEST(Batcher, ReadsAPromptOnceForSeveralChoices) {
    const auto engine = load("f32", 128);
    auto batcher = start(engine, small_options(3));
    const auto text = sample_tokens(engine, 300);
    auto request = greedy(*batcher, text, 20);
    request.n_choices = 3;
    const auto greedy_choices = collect(*submit(*batcher, request), 3);
    EXPECT_EQ(greedy_choices[0].tokens(), greedy_choices[1].tokens());
    EXPECT_EQ(greedy_choices[0].tokens(), greedy_choices[2].tokens());
    request.sampling = {.temperature = 1, .seed = 7};
    const auto choices = collect(*submit(*batcher, request), 3);
    EXPECT_NE(choices[0].tokens(), choices[1].tokens());
    request.n_choices = 1;
    request.sampling.seed = 8;
    EXPECT_EQ(answer(*batcher, request).tokens(), choices[1].tokens());
    request.n_choices = 4;
    const auto refused = batcher->submit(request);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().message, "4 answers at once are not possible: ask for 1 to 3 (--parallel)");
}

TEST(Batcher, ToldProbabilitiesAreThoseOfTheSoftmax) {
    const auto engine = load("f32", 128);
    auto batcher = start(engine, small_options(1));
    const auto prompt = sample_tokens(engine, 30);
    auto request = greedy(*batcher, prompt, 1);
    request.n_logprobs = engine.info().n_vocab;
    const auto outcome = answer(*batcher, request);
    auto sequence = test::start(engine, batcher->limits().sequence);
    test::append(sequence, prompt);
    double sum = 0;
    for (const float logit : sequence.logits()) sum += std::exp(static_cast<double>(logit));
    ASSERT_EQ(outcome.drawn[0].likeliest.size(), sequence.logits().size());
    float before = INFINITY;
    for (const auto& [token, logprob] : outcome.drawn[0].likeliest) {
        EXPECT_LE(logprob, before);
        before = logprob;
        EXPECT_NEAR(logprob, sequence.logits()[static_cast<size_t>(token)] - std::log(sum), 1e-4);
    }
    EXPECT_EQ(outcome.drawn[0].token, outcome.drawn[0].likeliest[0].token);
}

TEST(Batcher, EndsAtTheContext) {
    const auto engine = load("f32", 128);
    auto options = small_options(1);
    options.pool.n_ctx = 100;
    auto batcher = start(engine, options);
    const auto outcome = answer(*batcher, greedy(*batcher, sample_tokens(engine, 80), -1));
    EXPECT_EQ(outcome.reason, FinishReason::length);
    EXPECT_EQ(outcome.drawn.size(), 20U);
}

TEST(Batcher, KeepsToAGrammar) {
    const auto engine = load("f32", 128);
    auto batcher = start(engine, small_options(2));
    auto request = greedy(*batcher, sample_tokens(engine, 50), 40);
    request.ignore_eos = false;
    request.constraint = Constraint::gbnf("root ::= (\"yes\" | \"no\") \", \" [0-9] [0-9]").value();
    const auto outcome = answer(*batcher, request);
    EXPECT_EQ(outcome.reason, FinishReason::end_of_generation) << outcome.error;
    std::string text;
    for (const Token token : outcome.tokens()) text += engine.piece(token);
    EXPECT_TRUE(text.starts_with("yes, ") || text.starts_with("no, ")) << text;
}

TEST(Batcher, NeverDrawsTheEndWhereItIsIgnored) {
    const auto engine = load("f32", 128);
    auto batcher = start(engine, small_options(2));
    constexpr Token kEnd = 2;
    auto request = greedy(*batcher, sample_tokens(engine, 50), 30);
    request.sampling.logit_bias = {{.token = kEnd, .bias = 1000}};
    const auto outcome = answer(*batcher, request);
    EXPECT_EQ(outcome.reason, FinishReason::length) << outcome.error;
    EXPECT_EQ(outcome.drawn.size(), 30U);
    EXPECT_FALSE(std::ranges::contains(outcome.tokens(), kEnd));
    request.ignore_eos = false;
    EXPECT_EQ(answer(*batcher, request).reason, FinishReason::end_of_generation);

    // Once the grammar is complete, generation ends even with ignore_eos, since nothing else may follow.
    request.ignore_eos = true;
    request.constraint = Constraint::gbnf("root ::= \"yes\" [0-9]").value();
    const auto said = answer(*batcher, request);
    EXPECT_EQ(said.reason, FinishReason::end_of_generation) << said.error;
    std::string text;
    for (const Token token : said.tokens()) text += engine.piece(token);
    EXPECT_TRUE(text.starts_with("yes")) << text;
    EXPECT_FALSE(std::ranges::contains(said.tokens(), kEnd));
}

TEST(Batcher, StatedMemoryIsABoundOnAllOfIt) {
    const auto engine = load("f32", 128);
    BatcherOptions options{.pool = {.sequence = {.window = 8}, .kv_bytes = 1'000'000, .n_parallel = 3, .n_ctx = 1500}};
    auto batcher = start(engine, options);
    EXPECT_LE(batcher->limits().kv_bytes, 1'000'000U);
    EXPECT_GE(batcher->limits().kv_bytes, 950'000U);
    const auto text = sample_tokens(engine, 1499);
    std::vector<std::shared_ptr<Generation>> all;
    for (size_t i = 0; i < 9; i++)
        all.push_back(submit(*batcher, greedy(*batcher, std::span(text).first(1499 - 150 * i), 100)));
    for (const auto& generation : all) EXPECT_EQ(collect(*generation).front().error, "");
    EXPECT_LE(batcher->report().kv_bytes_peak, 1'000'000U);

    options.pool.kv_bytes = 50'000;
    const auto refused = BatchLoop::start(engine, options);
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().message.starts_with("K/V memory of 50000 bytes is too little: "))
        << refused.error().message;
}

TEST(Batcher, ReportsWhereTheCakeGoes) {
    const auto engine = load("f32", 128);
    auto batcher = start(engine, small_options(2));
    auto request = greedy(*batcher, sample_tokens(engine, 500), 20);
    request.id = "mine";
    answer(*batcher, request);
    const auto slot = batcher->slot("mine");
    ASSERT_TRUE(slot);
    EXPECT_EQ(slot->state, SlotState::idle);
    ASSERT_EQ(slot->tokens.size(), 519U);
    ASSERT_EQ(slot->held.size(), 519U);
    EXPECT_TRUE(std::equal(request.prompt.begin(), request.prompt.end(), slot->tokens.begin()));
    // Every layer holds the last token. `held` counts a layer if any of its heads holds the token.
    EXPECT_EQ(slot->held.back(), engine.info().n_layer);
    int64_t n_kept = 0;
    for (const auto& layer : slot->layers) n_kept += layer.kept;
    int64_t n_held = 0;
    for (const int32_t n : slot->held) n_held += n;
    EXPECT_GE(n_held, n_kept);
    EXPECT_LE(n_kept, 64 * engine.info().n_layer);
    EXPECT_FALSE(batcher->slot("another"));
}

}  // namespace
}  // namespace cake
