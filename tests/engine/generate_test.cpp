#include <gtest/gtest.h>

#include "cake/engine.hpp"
#include "cake/sequence.hpp"
#include "support/llama_reference.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

using test::append;
using test::full;
using test::generate;
using test::load;
using test::mean_kl;
using test::start;

TEST(Generate, InPartsIsAtOnceAndATurnReadsTheLastTokenToo) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 60);
    auto at_once = start(engine, full(200));
    append(at_once, tokens);
    const auto whole = generate(at_once, 10);
    auto in_parts = start(engine, full(200));
    append(in_parts, tokens);
    auto parts = generate(in_parts, 5);
    parts.append_range(generate(in_parts, 5));
    EXPECT_EQ(parts, whole);

    append(in_parts, std::span(tokens).first(7));
    auto read = tokens;
    read.append_range(whole);
    read.append_range(std::span(tokens).first(7));
    EXPECT_EQ(in_parts.n_tokens(), static_cast<int64_t>(read.size()));
    auto reference = start(engine, full(200));
    append(reference, read);
    EXPECT_LT(mean_kl(reference.logits(), in_parts.logits(), reference.logits().size()), 1e-6);
}

TEST(Generate, GoesOnWhereAShortPromptLeftRoomUpToTheBudget) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 40);
    auto sequence = start(engine, {.budget = TokensPerLayer{128}});
    append(sequence, tokens);
    for (int i = 0; i < 88; i++) ASSERT_TRUE(sequence.decode(tokens[static_cast<size_t>(i % 40)]));
    for (const auto& layer : sequence.layers()) EXPECT_EQ(layer.kept, 128);
    ASSERT_TRUE(sequence.decode(tokens[0]));
    // The budget is now divided by preference: a single layer may hold more than 128 tokens, the average may not.
    int64_t kept = 0;
    for (const auto& layer : sequence.layers()) kept += layer.kept;
    EXPECT_LE(kept, 128 * engine.info().n_layer);
}

TEST(Generate, StopsAtTheLimitAndWhenCancelled) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 40);
    auto sequence = start(engine, {.budget = TokensPerLayer{64}});
    append(sequence, tokens);
    size_t n = 0;
    for ([[maybe_unused]] const Token token : sequence.generate({.max_tokens = 10, .ignore_eos = true})) n++;
    EXPECT_EQ(n, 10U);
    EXPECT_EQ(sequence.finish_reason(), FinishReason::length);
    n = 0;
    for ([[maybe_unused]] const Token token :
         sequence.generate({.ignore_eos = true, .cancelled = [&] { return n == 5; }}))
        n++;
    EXPECT_EQ(n, 5U);
    EXPECT_EQ(sequence.finish_reason(), FinishReason::cancelled);
}

TEST(Generate, EndsWithTheTokenThatCompletesAStopString) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 40);
    const auto answer = [&](std::vector<std::string> stop) {
        auto sequence = start(engine, {.budget = TokensPerLayer{64}});
        append(sequence, tokens);
        std::string text;
        for (const Token token : sequence.generate(
                 {.max_tokens = 30, .ignore_eos = true, .sampling = {.temperature = 0}, .stop = std::move(stop)}))
            text += engine.piece(token);
        return std::pair(text, sequence.finish_reason());
    };
    const auto [whole, length] = answer({});
    EXPECT_EQ(length, FinishReason::length);
    const std::string stop = whole.substr(whole.size() / 2, 3);
    const auto [part, reason] = answer({stop});
    EXPECT_EQ(reason, FinishReason::end_of_generation);
    EXPECT_TRUE(whole.starts_with(part));
    EXPECT_TRUE(part.contains(stop));
    EXPECT_LT(part.find(stop) + stop.size(), part.size() + 16) << "no more than a token goes beyond";
    EXPECT_LT(part.size(), whole.size());
}

TEST(Generate, NeverDrawsTheEndWhereItIsIgnored) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 40);
    constexpr Token kEnd = 2;
    for (const float temperature : {0.0F, 1.0F}) {
        // Make the end of text by far the most likely token, as it is after an answer.
        const SamplingOptions sampling{.temperature = temperature, .logit_bias = {{.token = kEnd, .bias = 1000}}};
        auto sequence = start(engine, {.budget = TokensPerLayer{64}});
        append(sequence, tokens);
        for ([[maybe_unused]] const Token token : sequence.generate({.max_tokens = 20, .sampling = sampling}))
            ADD_FAILURE() << "the text ends at once";
        EXPECT_EQ(sequence.finish_reason(), FinishReason::end_of_generation);
        size_t n = 0;
        for (const Token token : sequence.generate({.max_tokens = 20, .ignore_eos = true, .sampling = sampling})) {
            EXPECT_NE(token, kEnd);
            n++;
        }
        EXPECT_EQ(n, 20U);
        EXPECT_EQ(sequence.finish_reason(), FinishReason::length);
    }
}

TEST(Generate, SaysThatAFullCacheHasNoRoom) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 40);
    auto sequence = start(engine, full(50));
    append(sequence, tokens);
    for (int i = 0; i < 10; i++) ASSERT_TRUE(sequence.decode(tokens[0]));
    EXPECT_FALSE(sequence.decode(tokens[0]));
    EXPECT_FALSE(start(engine, full(20)).append(tokens));
}

TEST(Decode, ReadsTheGeneratedTokenFirstAndCountsIt) {
    const auto engine = load("f32");
    const auto tokens = test::sample_tokens(engine, 20);
    auto sequence = start(engine, full(22));
    append(sequence, tokens);
    EXPECT_EQ(test::generate(sequence, 1).size(), 1U);
    EXPECT_TRUE(sequence.decode(tokens[0]));
    EXPECT_EQ(sequence.n_tokens(), 22);
    EXPECT_FALSE(sequence.decode(tokens[0]));
}

TEST(Generate, KeepsToItsConstraint) {
    const auto engine = test::load("f32");
    auto sequence = start(engine, {.budget = TokensPerLayer{64}});
    test::append(sequence, test::sample_tokens(engine, 100));
    GenerateOptions options{.max_tokens = 40, .ignore_eos = true, .sampling = {.temperature = 1, .seed = 3}};
    options.constraint = Constraint::gbnf("root ::= (\"yes\" | \"no\") \", \" [0-9] [0-9]").value();
    std::string text;
    for (const Token token : sequence.generate(options)) text += engine.piece(token);
    EXPECT_EQ(sequence.finish_reason(), FinishReason::end_of_generation) << sequence.error().message;
    EXPECT_TRUE(text.starts_with("yes, ") || text.starts_with("no, ")) << text;
    EXPECT_EQ(text.size(), text.starts_with("yes") ? 7U : 6U) << text;
}

TEST(Constraint, AWrongOneIsRefused) {
    const auto grammar = Constraint::gbnf("root ::= other");
    ASSERT_FALSE(grammar);
    EXPECT_NE(grammar.error().message.find("other"), std::string::npos) << grammar.error().message;
    EXPECT_FALSE(Constraint::json_schema("{\"not\": {\"type\": \"string\"}}"));
    EXPECT_TRUE(Constraint::json_schema("{\"type\": \"integer\"}"));
}

}  // namespace
}  // namespace cake
