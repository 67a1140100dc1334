// A short prompt and a long answer: nothing is evicted until decoding fills the layers.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "cake/batcher.hpp"
#include "cake/engine.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

using test::append;
using test::generate;
using test::start;

constexpr int64_t kBudget = 64;
constexpr int64_t kPrompt = 20;

std::vector<int64_t> budgets(const Sequence& sequence) {
    std::vector<int64_t> result;
    for (const auto& layer : sequence.layers()) result.push_back(layer.budget);
    return result;
}

SequenceOptions options_of(const std::string& policy) {
    return {.policy = policy, .budget = TokensPerLayer{kBudget}, .window = 8};
}

class LongAnswer : public testing::TestWithParam<std::string> {
  protected:
    void expect_bound(const Sequence& sequence) const {
        const auto memory = sequence.memory();
        EXPECT_LE(memory.kv_bytes_now, memory.kv_bytes_budget);
        EXPECT_LE(memory.kv_bytes_peak, memory.kv_bytes_budget + memory.layer_bytes);
        int64_t kept = 0;
        for (const auto& layer : sequence.layers()) kept += layer.kept;
        EXPECT_LE(kept, kBudget * engine.info().n_layer);
    }

    const Engine engine = test::load("f32", 64);
    const std::vector<Token> tokens = test::sample_tokens(engine, 200);
};

TEST_P(LongAnswer, HoldsTheBoundAndSlicesWhenTheLayersAreFull) {
    auto sequence = start(engine, options_of(GetParam()));
    append(sequence, std::span(tokens).first(kPrompt));
    for (size_t i = kPrompt; i < kBudget; i++) {
        ASSERT_TRUE(sequence.decode(tokens[i]));
        expect_bound(sequence);
        for (const auto& layer : sequence.layers()) EXPECT_EQ(layer.kept, static_cast<int64_t>(i) + 1);
    }
    EXPECT_EQ(std::ranges::count(budgets(sequence), budgets(sequence)[0]), 4) << "uniform until then";
    ASSERT_TRUE(sequence.decode(tokens[kBudget]));
    expect_bound(sequence);

    // The pyramid and preference allocators have now set uneven budgets, which decoding does not change.
    const auto sliced = budgets(sequence);
    const bool uneven = GetParam() == "pyramidkv" || GetParam().starts_with("cake");
    EXPECT_EQ(std::set(sliced.begin(), sliced.end()).size() > 1, uneven);
    EXPECT_TRUE(GetParam() != "pyramidkv" || std::ranges::is_sorted(sliced, std::greater{}));
    for (const auto& layer : sequence.layers()) {
        EXPECT_GE(layer.budget, 8) << "the window stays";
        EXPECT_EQ(layer.preference.value_or(0) > 0, GetParam().starts_with("cake"));
    }
    for (size_t i = 0; i < 60; i++) {
        ASSERT_TRUE(sequence.decode(tokens[i]));
        expect_bound(sequence);
    }
    EXPECT_EQ(budgets(sequence), sliced);
    append(sequence, tokens);
    expect_bound(sequence);
}

/// The budget is divided as after a prompt of the same tokens. It depends on the queries of the last tokens, whether
/// these were prefilled or decoded.
TEST_P(LongAnswer, IsSlicedAsAPromptOfTheSameTokens) {
    auto answered = start(engine, options_of(GetParam()));
    append(answered, std::span(tokens).first(kPrompt));
    for (size_t i = kPrompt; i < kBudget; i++) ASSERT_TRUE(answered.decode(tokens[i]));
    ASSERT_TRUE(answered.decode(tokens[kBudget]));
    auto options = options_of(GetParam());
    options.budget = TokensPerLayer{kBudget - 1};  // so that the prompt does not fit
    auto read = start(engine, options);
    append(read, std::span(tokens).first(kBudget));
    for (size_t layer = 0; layer < 4; layer++) {
        // After the prompt, there is one token less per layer to divide.
        EXPECT_NEAR(static_cast<double>(budgets(answered)[layer]), static_cast<double>(budgets(read)[layer]), 4);
        ASSERT_EQ(answered.layers()[layer].preference.has_value(), read.layers()[layer].preference.has_value());
        if (!read.layers()[layer].preference) continue;
        const double preference = *read.layers()[layer].preference;
        EXPECT_NEAR(*answered.layers()[layer].preference, preference, 0.01 * preference);
    }
}

TEST_P(LongAnswer, GoesOnFromASessionSavedAroundThatMoment) {
    const std::string path = std::filesystem::temp_directory_path() / fmt::format("cake-long-answer-{}", ::getpid());
    auto kept = start(engine, options_of(GetParam()));
    append(kept, std::span(tokens).first(kPrompt));
    for (size_t i = kPrompt; i < kBudget + 2; i++) {
        ASSERT_TRUE(kept.decode(tokens[i]));
        if (i + 2 < kBudget) continue;
        SCOPED_TRACE(i);
        ASSERT_TRUE(kept.save(path));
        auto loaded = Sequence::load(engine, path);
        ASSERT_TRUE(loaded) << loaded.error().message;
        for (size_t n = i + 1; n < kBudget + 30; n++) {
            ASSERT_TRUE(loaded->decode(tokens[n]));
            expect_bound(*loaded);
        }
        auto other = start(engine, options_of(GetParam()));
        append(other, std::span(tokens).first(kPrompt));
        for (size_t n = kPrompt; n < kBudget + 30; n++) ASSERT_TRUE(other.decode(tokens[n]));
        EXPECT_EQ(budgets(*loaded), budgets(other));
        EXPECT_TRUE(std::ranges::equal(loaded->logits(), other.logits()));
    }
    std::filesystem::remove(path);
}

TEST_P(LongAnswer, AmongOthersIsWhatItIsAlone) {
    auto scheduler =
        Batcher::start(engine, {.pool = {.sequence = options_of(GetParam()), .n_parallel = 3, .n_ctx = 2048}});
    ASSERT_TRUE(scheduler) << scheduler.error().message;
    std::vector<std::shared_ptr<Generation>> together;
    // The prompts differ in length, so the stores fill up at different times.
    for (size_t i = 0; i < 3; i++) {
        auto generation = (*scheduler)
                              ->submit({.prompt = {tokens.begin(), tokens.begin() + 12 + 9 * static_cast<ptrdiff_t>(i)},
                                        .sequence = (*scheduler)->limits().sequence,
                                        .sampling = {.temperature = 0},
                                        .max_tokens = 100,
                                        .ignore_eos = true,
                                        .reuse = false});
        ASSERT_TRUE(generation) << generation.error().message;
        together.push_back(*generation);
    }
    for (size_t i = 0; i < 3; i++) {
        std::vector<Token> drawn;
        for (bool open = true; open;) {
            const auto event = together[i]->next(std::chrono::seconds(120));
            ASSERT_TRUE(event) << "nothing has happened for too long";
            if (const auto* token = std::get_if<TokenDrawn>(&event->what)) drawn.push_back(token->token);
            open = !std::holds_alternative<ChoiceEnded>(event->what);
        }
        auto alone = start(engine, (*scheduler)->limits().sequence);
        append(alone, std::span(tokens).first(12 + 9 * i));
        EXPECT_EQ(drawn, generate(alone, 100));
        EXPECT_EQ(alone.layers()[0].preference.has_value(), GetParam().starts_with("cake"));
    }
    const auto report = (*scheduler)->report();
    EXPECT_LE(report.kv_bytes_peak, report.kv_bytes_bound);
    EXPECT_GT(report.n_evicted_tokens, 0);
}

INSTANTIATE_TEST_SUITE_P(Policies, LongAnswer,
                         testing::Values("cake", "cake:preference-heads", "pyramidkv", "snapkv", "ada-snapkv", "h2o",
                                         "streaming-llm"),
                         [](const auto& instance) {
                             std::string name = instance.param;
                             std::ranges::replace_if(name, [](char c) { return c == '-' || c == ':'; }, '_');
                             return name;
                         });

/// If the window is about as large as the budget, hardly anything is left to divide.
TEST(LongAnswerBound, HoldsWhereTheWindowIsAllThatIsHeld) {
    const auto engine = test::load("f32", 64);
    const auto tokens = test::sample_tokens(engine, 120);
    for (const auto* policy : {"cake", "cake:preference-heads"}) {
        for (const int64_t budget : {16, 17, 20}) {
            SCOPED_TRACE(fmt::format("{} {}", policy, budget));
            auto sequence = start(engine, {.policy = policy, .budget = TokensPerLayer{budget}, .window = 16});
            append(sequence, std::span(tokens).first(5));
            for (const Token token : tokens) {
                ASSERT_TRUE(sequence.decode(token));
                int64_t kept = 0;
                for (const auto& layer : sequence.layers()) kept += layer.kept;
                EXPECT_LE(kept, budget * engine.info().n_layer);
            }
        }
    }
}

}  // namespace
}  // namespace cake
