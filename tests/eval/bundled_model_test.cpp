// `./dev demo` and docs/results.md rely on a property of the bundled model: its answers depend on what the cache keeps.

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>

#include "cake/engine.hpp"
#include "eval/runner.hpp"
#include "eval/task.hpp"
#include "support/llama_reference.hpp"

namespace cake::eval {
namespace {

const std::string kFolder = CAKE_MODELS;
/// An answer has five tokens: a space and four digits. The question attends only to the first of them, so the pooling
/// must reach the other four (docs/results.md).
constexpr int32_t kPoolKernel = 11;

const Engine& bundled() {
    static const Engine engine = [] {
        auto loaded = Engine::load(kFolder + "/cake-mini.gguf", {.threads = 2});
        if (!loaded) throw std::runtime_error(loaded.error().message);
        return std::move(*loaded);
    }();
    return engine;
}

std::string document() {
    std::ifstream stream(kFolder + "/document.txt");
    std::string text{std::istreambuf_iterator<char>(stream), {}};
    while (text.ends_with('\n')) text.pop_back();
    return text;
}

/// Scores over all depths, by policy and budget.
std::map<std::pair<std::string, int64_t>, double> scores(const std::vector<Row>& rows) {
    std::map<std::pair<std::string, int64_t>, double> result;
    for (const auto& row : rows) {
        if (row.depth < 0) result[{row.policy, row.budget}] = row.figures.front().value;
    }
    return result;
}

TEST(BundledModel, FindsAFactAtAnyDepthAndCakeKeepsItWhereTheMostRecentTokensDoNot) {
    const auto& engine = bundled();
    const TaskInput input{.lengths = {1024},
                          .depths = {0, 0.25, 0.5, 0.75},
                          .n_samples = 5,
                          .seed = 77,
                          .counter = {.count =
                                          [&](std::string_view text) {
                                              return static_cast<int64_t>(engine.tokenize(text, false)->size());
                                          },
                                      .n_first = 1},
                          .warn = {},
                          .progress = {}};
    const auto samples = niah_samples(input);
    ASSERT_TRUE(samples) << samples.error().message;
    const std::vector<std::string> policies = {"full", "cake", "streaming-llm"};
    const std::vector<int64_t> budgets = {96};
    const auto outcome = run_samples(engine, *samples, all_settings(policies, budgets, {.pool_kernel = kPoolKernel}),
                                     {.progress = {}, .on_cut = {}, .on_answer = {}});
    ASSERT_FALSE(outcome.error) << outcome.error->message;
    const auto score = scores(outcome.rows);
    EXPECT_GE(score.at({"full", 0}), 0.9);
    EXPECT_GE(score.at({"cake", 96}), 0.9);
    EXPECT_LE(score.at({"streaming-llm", 96}), 0.2) << "the answer needs the cache";
}

TEST(BundledModel, AnswersTheDemosQuestionFromATwentiethOfTheCache) {
    const auto& engine = bundled();
    const auto tokens = engine.tokenize(document() + "\nUSER: What is the code of the humble otter?\nASSISTANT:");
    ASSERT_TRUE(tokens);
    ASSERT_GE(static_cast<int32_t>(tokens->size()), engine.info().n_ctx_train);
    for (const auto& options :
         {SequenceOptions{.policy = "full", .max_tokens = 6000},
          SequenceOptions{.policy = "cake", .budget = KvRatio{0.05}, .pool_kernel = kPoolKernel}}) {
        auto sequence = engine.sequence(options);
        ASSERT_TRUE(sequence);
        ASSERT_TRUE(sequence->append(*tokens));
        std::string answer;
        for (const Token token : sequence->generate({.max_tokens = 20, .sampling = {.temperature = 0}}))
            answer += engine.piece(token);
        EXPECT_EQ(answer, " 8866") << options.policy;
        EXPECT_EQ(sequence->finish_reason(), FinishReason::end_of_generation);
    }
}

TEST(BundledModel, GivesLlamaCppsLogits) {
    const auto& engine = bundled();
    auto tokens = engine.tokenize(document());
    ASSERT_TRUE(tokens);
    tokens->resize(400);
    auto sequence = engine.sequence({.policy = "full", .max_tokens = 400});
    ASSERT_TRUE(sequence);
    ASSERT_TRUE(sequence->append(*tokens, {.progress = {}, .all_logits = true}));
    const auto reference = test::llama_logits(kFolder + "/cake-mini.gguf", *tokens);
    EXPECT_LT(test::mean_kl(reference, sequence->logits(), static_cast<size_t>(engine.info().n_vocab)), 1e-4);
}

TEST(BundledModel, IsAskedInItsChatTemplate) {
    const auto prompt = bundled().chat_prompt("Who?");
    ASSERT_TRUE(prompt) << prompt.error().message;
    EXPECT_EQ(*prompt, "USER: Who?\nASSISTANT:");
}

}  // namespace
}  // namespace cake::eval
