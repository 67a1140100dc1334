#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/generator.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

/// Generates 40 tokens, of which the model would choose "a" each time, unless it is made to write something else.
std::string answer(const Engine& engine, GeneratorOptions options, std::string_view begun = {}) {
    const auto& state = *EngineAccess::state(engine);
    const auto token_of = [&](std::string_view text) {
        return state.vocabulary.tokenize(text, {.around = false})->back();
    };
    const Token usual = token_of("aaa");
    options.sampling.temperature = 0;
    options.max_tokens = 40;
    Generator generator(state, std::move(options));
    std::string text;
    const auto first = state.vocabulary.tokenize(begun, {.around = false});
    for (size_t i = 0; !generator.has_ended(); i++) {
        std::vector<float> logits(static_cast<size_t>(engine.info().n_vocab), -1);
        logits[static_cast<size_t>(i < first->size() ? (*first)[i] : usual)] = 1;
        const auto token = generator.draw(logits);
        if (token) text += engine.piece(*token, true);
    }
    return text;
}

size_t n_of(std::string_view text, char c) {
    return static_cast<size_t>(std::ranges::count(text, c));
}

constexpr const char* kBegin = "[think]";
constexpr const char* kEnd = "[/think]";

ReasoningLimit limit(int64_t max_tokens, bool is_begun) {
    return {.begin = kBegin,
            .end = kEnd,
            .ending = fmt::format("\n{}\n\n", kEnd),
            .max_tokens = max_tokens,
            .is_begun = is_begun};
}

class Reasoning : public testing::Test {
  protected:
    const Engine engine = test::load("llama", 128);
    const std::string a = answer(engine, {});  // 40 tokens without a limit
    const size_t n_each = n_of(a, 'a') / 40;   // characters in each of them
};

TEST_F(Reasoning, EndsAfterItsTokens) {
    for (const int64_t n : {0, 1, 7}) {
        const auto text = answer(engine, {.reasoning = limit(n, true)});
        const auto end = text.find(fmt::format("\n{}\n\n", kEnd));
        ASSERT_NE(end, std::string::npos) << text;
        EXPECT_EQ(n_of(text.substr(0, end), 'a'), static_cast<size_t>(n) * n_each) << text;
        EXPECT_GT(n_of(text.substr(end), 'a'), n_each) << "the answer follows";
    }
}

TEST_F(Reasoning, IsCountedFromItsMark) {
    const auto text = answer(engine, {.reasoning = limit(5, false)}, kBegin);
    EXPECT_TRUE(text.contains(kBegin)) << text;
    const auto end = text.find(kEnd);
    ASSERT_NE(end, std::string::npos) << text;
    EXPECT_EQ(n_of(text.substr(0, end), 'a'), 5 * n_each) << text;
}

TEST_F(Reasoning, ThatEndsInTimeOrDoesNotBeginIsLeftAlone) {
    const auto ended = answer(engine, {.reasoning = limit(30, true)}, kEnd);
    EXPECT_EQ(ended, answer(engine, {}, kEnd));
    EXPECT_EQ(answer(engine, {.reasoning = limit(2, false)}), a);
}

}  // namespace
}  // namespace cake
