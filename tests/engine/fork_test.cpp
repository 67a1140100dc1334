#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "cake/engine.hpp"
#include "cake/policy.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

using test::append;
using test::generate;
using test::load;
using test::start;

std::vector<float> logits_of(const Sequence& sequence) {
    return {sequence.logits().begin(), sequence.logits().end()};
}

class Fork : public testing::TestWithParam<const char*> {
  protected:
    static SequenceOptions options() {
        SequenceOptions options{.policy = GetParam(), .window = 16};
        if (options.policy == kFullPolicy)
            options.max_tokens = 600;
        else
            options.budget = TokensPerLayer{64};
        return options;
    }
};

TEST_P(Fork, ContinuesLikeTheOriginalAndLeavesItAlone) {
    const auto engine = load("f32", 64);
    const auto tokens = test::sample_tokens(engine, 500);
    auto original = start(engine, options());
    append(original, std::span(tokens).first(400));
    const auto before = logits_of(original);
    auto copy = fork(original);
    ASSERT_TRUE(copy) << copy.error().message;
    EXPECT_EQ(logits_of(*copy), before);
    EXPECT_EQ(copy->n_tokens(), 400);

    append(*copy, std::span(tokens).subspan(400, 30));
    const auto answer = generate(*copy, 40);
    EXPECT_EQ(logits_of(original), before);
    EXPECT_EQ(original.n_tokens(), 400);
    append(original, std::span(tokens).subspan(400, 30));
    EXPECT_EQ(generate(original, 40), answer);
    EXPECT_EQ(logits_of(original), logits_of(*copy));
}

TEST_P(Fork, AnswersAtOnceAndIsSavedLikeTheOriginal) {
    const auto engine = load("f32", 64);
    const auto tokens = test::sample_tokens(engine, 300);
    for (const size_t n_tokens : {size_t{40}, size_t{300}}) {  // a text that fits, and one that does not
        auto original = start(engine, options());
        append(original, std::span(tokens).first(n_tokens));
        auto copy = fork(original);
        ASSERT_TRUE(copy) << copy.error().message;
        const auto path = testing::TempDir() + fmt::format("/cake-fork-{}", ::getpid());
        ASSERT_TRUE(copy->save(path));
        auto loaded = Sequence::load(engine, path);
        std::filesystem::remove(path);
        ASSERT_TRUE(loaded) << loaded.error().message;
        const auto answer = generate(original, 60);
        EXPECT_EQ(generate(*copy, 60), answer);
        EXPECT_EQ(generate(*loaded, 60), answer);
    }
}

INSTANTIATE_TEST_SUITE_P(, Fork,
                         testing::Values("full", "cake", "h2o", "layer-defensivekv", "kvzip", "expected-attention"),
                         [](const auto& instance) {
                             std::string name = instance.param;
                             std::ranges::replace(name, '-', '_');
                             return name;
                         });

TEST(ForkOfNothing, IsEmpty) {
    const auto engine = load("f32", 64);
    const auto copy = fork(start(engine, {.budget = TokensPerLayer{64}}));
    ASSERT_TRUE(copy) << copy.error().message;
    EXPECT_EQ(copy->n_tokens(), 0);
}

}  // namespace
}  // namespace cake
