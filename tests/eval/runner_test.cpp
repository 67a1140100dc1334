#include "eval/runner.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "eval/fidelity.hpp"
#include "eval/metrics.hpp"
#include "support/test_models.hpp"

namespace cake::eval {
namespace {

Engine load() {
    auto engine = Engine::load(test::model_path("f32"), {.threads = 2});
    if (!engine) throw std::runtime_error(engine.error().message);
    return std::move(*engine);
}

constexpr const char* kText = "the rain in spain stays mainly in the plain and so does the slow train of the old king ";

std::string long_text(int n) {
    std::string text;
    for (int i = 0; i < n; i++) text += kText + std::to_string(i * i);
    return text;
}

std::vector<Setting> settings() {
    const std::vector<std::string> policies = {"full", "streaming-llm", "cake"};
    const std::vector<int64_t> budgets = {48, 96};
    return all_settings(policies, budgets, {});
}

TEST(Settings, HaveEveryBudgetAndTheFullCacheOnce) {
    const auto all = settings();
    ASSERT_EQ(all.size(), 5U);
    EXPECT_EQ(all[0].policy, "full");
    EXPECT_FALSE(all[0].options.budget.has_value());
    EXPECT_EQ(all[4].policy, "cake");
    EXPECT_EQ(all[4].budget, 96);
}

TEST(RunSamples, AsksEachSampleUnderEachSettingAsARunOfItsOwnWould) {
    const auto engine = load();
    std::vector<Sample> samples;
    for (int i = 4; i < 7; i++) {
        samples.push_back({.subtasks = {"a", i == 4 ? "four" : "more"},
                           .prompt = long_text(i),
                           .answers = {"e"},
                           .metric = contains_all,
                           .max_tokens = 12,
                           .depth = i == 4 ? 0.0 : 1.0});
    }
    size_t n_answers = 0;
    const auto all = settings();
    const auto outcome = run_samples(
        engine, samples, all,
        {.progress = {},
         .on_cut = {},
         .on_answer = [&](const Sample& sample, const Setting& setting, const std::string& text, double score) {
             n_answers++;
             auto options = setting.options;
             if (setting.budget == 0) options.max_tokens = 2000;
             auto alone = engine.sequence(options);
             ASSERT_TRUE(alone);
             ASSERT_TRUE(alone->append(*engine.tokenize(sample.prompt)));
             std::string expected;
             for (const Token t : alone->generate({.max_tokens = 12, .sampling = {.temperature = 0}}))
                 expected += engine.piece(t);
             EXPECT_EQ(text, expected);
             EXPECT_EQ(score, contains_all(text, sample));
         }});
    ASSERT_FALSE(outcome.error) << outcome.error->message;
    const auto& rows = outcome.rows;
    EXPECT_EQ(n_answers, samples.size() * all.size());
    // Rows of each setting: a, a at depth 0, four, four at 0, a at 1, more, more at 1.
    EXPECT_EQ(rows.size(), all.size() * 7);
    EXPECT_EQ(rows[0].subtask, "a");
    EXPECT_EQ(rows[0].n_samples, 3U);
    EXPECT_EQ(rows[0].depth, -1);
}

TEST(RunSamples, EndsAnAnswerAsSoonAsItIsRightIfTheTaskSaysSo) {
    const auto engine = load();
    const auto answer = [&](bool ends_when_right, const std::string& wanted) {
        const std::vector<Sample> samples = {{.prompt = long_text(2),
                                              .answers = {wanted},
                                              .metric = contains_all,
                                              .max_tokens = 16,
                                              .ends_when_right = ends_when_right}};
        std::string text;
        const auto full = all_settings(std::vector<std::string>{"full"}, {}, {});
        const auto outcome =
            run_samples(engine, samples, full,
                        {.on_answer = [&](const auto&, const auto&, const auto& said, double) { text = said; }});
        EXPECT_FALSE(outcome.error);
        return text;
    };
    const std::string whole = answer(false, "");
    ASSERT_GT(whole.size(), 4U);
    const std::string begin = whole.substr(0, whole.size() / 4);
    const std::string ended = answer(true, begin);
    EXPECT_TRUE(whole.starts_with(ended));
    EXPECT_NE(ended.find(begin), std::string::npos);
    EXPECT_LT(ended.size(), whole.size());
    EXPECT_EQ(answer(true, "not in it, surely"), whole);
    EXPECT_EQ(answer(false, begin), whole);
}

TEST(RunSamples, AsksBlindlyAboutATextThatWasReadAndEvictedBefore) {
    const auto engine = load();
    std::vector<Sample> samples;
    for (const auto* question : {" what is the first word?", " what is the last one?"}) {
        samples.push_back({.prompt = long_text(6),
                           .question_begin = long_text(6).size(),
                           .answers = {"e"},
                           .metric = contains_all,
                           .max_tokens = samples.empty() ? 12 : 5});
        samples.back().prompt += question;
    }
    samples.push_back({.prompt = long_text(5) + " who?",
                       .question_begin = long_text(5).size(),
                       .answers = {"e"},
                       .metric = contains_all,
                       .max_tokens = 12});
    const std::vector<std::string> policies = {"full", "cake", "kvzip"};
    const std::vector<int64_t> budgets = {64};
    const auto all = all_settings(policies, budgets, {});
    size_t n_answers = 0;
    const auto outcome =
        run_samples(engine, samples, all,
                    {.blind = true,
                     .progress = {},
                     .on_cut = {},
                     .on_answer = [&](const Sample& sample, const Setting& setting, const std::string& text, double) {
                         n_answers++;
                         auto options = setting.options;
                         if (setting.budget == 0) options.max_tokens = 2000;
                         auto alone = engine.sequence(options);
                         ASSERT_TRUE(alone);
                         // The tokens of the text that do not depend on the question.
                         const auto whole = *engine.tokenize(sample.prompt);
                         const auto other = *engine.tokenize(sample.prompt.substr(0, sample.question_begin) + "~");
                         const auto n = std::ranges::mismatch(whole, other).in1 - whole.begin();
                         ASSERT_TRUE(alone->append(std::span(whole).first(static_cast<size_t>(n))));
                         ASSERT_TRUE(alone->append(std::span(whole).subspan(static_cast<size_t>(n))));
                         std::string expected;
                         const auto most = sample.max_tokens;
                         for (const Token t : alone->generate({.max_tokens = most, .sampling = {.temperature = 0}}))
                             expected += engine.piece(t);
                         EXPECT_EQ(text, expected) << setting.policy;
                     }});
    ASSERT_FALSE(outcome.error) << outcome.error->message;
    EXPECT_EQ(n_answers, samples.size() * all.size());

    samples.front().question_begin = 0;
    EXPECT_TRUE(
        run_samples(engine, samples, all, {.blind = true, .progress = {}, .on_cut = {}, .on_answer = {}}).error);
}

/// Both questions are answered in one batch.
TEST(RunSamples, KeepsTheAnswersThatAreWholeWhenItIsStopped) {
    const auto engine = load();
    std::vector<Sample> samples;
    for (const int32_t max_tokens : {1, 12}) {
        samples.push_back({.prompt = long_text(4) + " what is the first word?",
                           .question_begin = long_text(4).size(),
                           .answers = {"none"},
                           .metric = contains_all,
                           .max_tokens = max_tokens});
    }
    const std::vector<std::string> policies = {"cake"};
    const std::vector<int64_t> budgets = {64};
    const auto all = all_settings(policies, budgets, {});
    const auto answers_with = [&](int64_t max_calls) {
        int64_t n_calls = 0;
        size_t n_answers = 0;
        const auto outcome =
            run_samples(engine, samples, all,
                        {.blind = true,
                         .progress = [&](size_t, size_t) { return ++n_calls <= max_calls; },
                         .on_cut = {},
                         .on_answer = [&](const Sample&, const Setting&, const std::string&, double) { n_answers++; }});
        EXPECT_FALSE(outcome.error);
        return std::pair(n_answers, n_calls);
    };
    const auto [n_answers, n_calls] = answers_with(std::numeric_limits<int64_t>::max());
    EXPECT_EQ(n_answers, 2U);
    EXPECT_EQ(answers_with(n_calls - 3).first, 1U);
}

TEST(RunSamples, AsksAboutATextThatWasDecodedTokenByToken) {
    const auto engine = load();
    std::vector<Sample> samples;
    for (const auto* question : {" what is the first word?", " what is the last one?"}) {
        samples.push_back({.prompt = long_text(4) + question,
                           .question_begin = long_text(4).size(),
                           .answers = {"e"},
                           .metric = contains_all,
                           .max_tokens = 12});
    }
    const std::vector<std::string> policies = {"full", "cake", "r-kv", "streaming-llm"};
    const std::vector<int64_t> budgets = {64};
    const auto all = all_settings(policies, budgets, {});
    size_t n_answers = 0;
    const auto on_answer = [&](const Sample& sample, const Setting& setting, const std::string& text, double) {
        n_answers++;
        const auto tokens = *engine.tokenize(sample.prompt);
        auto options = setting.options;
        if (setting.budget == 0) options.max_tokens = 2000;
        auto alone = engine.sequence(options);
        ASSERT_TRUE(alone);
        const auto n_prompt = static_cast<size_t>(options.window);
        ASSERT_TRUE(alone->append(std::span(tokens).first(n_prompt)));
        Sequence* const batch[] = {&*alone};
        for (const Token token : std::span(tokens).subspan(n_prompt)) ASSERT_TRUE(decode_each(batch, {{token}}));
        std::string expected;
        for (const Token t : alone->generate({.max_tokens = 12, .sampling = {.temperature = 0}}))
            expected += engine.piece(t);
        EXPECT_EQ(text, expected) << setting.policy;
    };
    const auto outcome =
        run_samples(engine, samples, all, {.decode = true, .progress = {}, .on_cut = {}, .on_answer = on_answer});
    ASSERT_FALSE(outcome.error) << outcome.error->message;
    EXPECT_EQ(n_answers, samples.size() * all.size());
}

TEST(RunSamples, StopsWhereItIsToldAndGivesWhatItHas) {
    const auto engine = load();
    const std::vector<Sample> samples(
        5, {.prompt = long_text(3), .answers = {"x"}, .metric = contains_all, .max_tokens = 2});
    const auto outcome =
        run_samples(engine, samples, settings(),
                    {.progress = [](size_t n_done, size_t) { return n_done < 2; }, .on_cut = {}, .on_answer = {}});
    ASSERT_FALSE(outcome.error) << outcome.error->message;
    const auto& rows = outcome.rows;
    for (const auto& row : rows) EXPECT_EQ(row.n_samples, 2U);
}

TEST(RunSamples, CutsTheMiddleOfALongPrompt) {
    const auto engine = load();
    const std::vector<Sample> samples(
        1, {.prompt = long_text(9), .answers = {"x"}, .metric = contains_all, .max_tokens = 2});
    int n_cut = 0;
    const auto outcome = run_samples(engine, samples, settings(),
                                     {.max_context = 100, .progress = {}, .on_cut = [&] { n_cut++; }, .on_answer = {}});
    ASSERT_FALSE(outcome.error) << outcome.error->message;
    EXPECT_EQ(n_cut, 1);
}

TEST(RunSamples, AveragesOverSubtasksAndKeepsWhatCameBeforeAnError) {
    const auto engine = load();
    const auto sample = [](std::string subtask, Metric metric) {
        return Sample{.subtasks = {std::move(subtask)},
                      .prompt = long_text(2),
                      .answers = {"x"},
                      .metric = metric,
                      .max_tokens = 2};
    };
    const Metric right = [](std::string_view, const Sample&) { return 1.0; };
    const Metric wrong = [](std::string_view, const Sample&) { return 0.0; };
    std::vector<Sample> samples = {sample("a", right), sample("a", right), sample("a", right), sample("b", wrong)};
    const auto good =
        run_samples(engine, samples, settings(), {.average = true, .progress = {}, .on_cut = {}, .on_answer = {}});
    ASSERT_FALSE(good.error);
    ASSERT_EQ(good.rows.size(), 3 * settings().size());
    EXPECT_EQ(good.rows[2].subtask, "average");
    EXPECT_EQ(good.rows[2].figures[0].value, 0.5) << "each subtask counts the same";
    EXPECT_EQ(good.rows[2].n_samples, 4U);

    // One text is too long for the context of one setting.
    samples[3].prompt = long_text(40);
    auto bounded = settings();
    bounded[4].options.max_tokens = 500;
    const auto bad = run_samples(engine, samples, bounded, {.progress = {}, .on_cut = {}, .on_answer = {}});
    ASSERT_TRUE(bad.error.has_value());
    EXPECT_NE(bad.error->message.find("500"), std::string::npos) << bad.error->message;
    ASSERT_EQ(bad.rows.size(), settings().size());
    EXPECT_EQ(bad.rows[0].n_samples, 3U);
}

TEST(Fidelity, KeepsPassagesApart) {
    const auto engine = load();
    const auto n = static_cast<int64_t>(engine.tokenize(long_text(10), false)->size());
    const std::vector<FidelityInput> texts = {
        {.name = "rain", .text = long_text(10), .n_prompt = n / 3, .n_continuation = 10, .n_samples = 50}};
    const std::vector<std::string> policies = {"full", "streaming-llm"};
    const std::vector<int64_t> budgets = {40};
    const auto outcome = fidelity(engine, texts, all_settings(policies, budgets, {}), {});
    ASSERT_FALSE(outcome.error) << outcome.error->message;
    ASSERT_EQ(outcome.rows.size(), 1U) << "the full cache is what the others are compared with";
    EXPECT_EQ(outcome.rows[0].n_samples, 2U);
}

TEST(Fidelity, OfOtherCacheTypesIsToTheFullCacheInF16) {
    const auto engine = load();
    const std::vector<FidelityInput> texts = {
        {.name = "rain", .text = long_text(60), .n_prompt = 300, .n_continuation = 40, .n_samples = 2}};
    const std::vector<std::string> policies = {"full", "snapkv"};
    const std::vector<int64_t> budgets = {100};
    const auto kl = [&](const std::string& type) {
        const auto outcome =
            fidelity(engine, texts, all_settings(policies, budgets, {.cache_type_k = type, .cache_type_v = type}), {});
        EXPECT_FALSE(outcome.error);
        EXPECT_EQ(outcome.rows.size(), 2U);
        EXPECT_EQ(outcome.rows.front().policy, "full");
        EXPECT_LT(outcome.rows.front().figures[0].value, outcome.rows.back().figures[0].value);
        return outcome.rows.front().figures[0].value;
    };
    EXPECT_LT(kl("f32"), 1e-4);
    EXPECT_GT(kl("q4_0"), kl("q8_0"));
    EXPECT_GT(kl("q8_0"), 0);
}

TEST(Fidelity, IsPerfectWhereNothingIsDroppedAndFallsWithTheBudget) {
    const auto engine = load();
    const std::vector<FidelityInput> texts = {
        {.name = "rain", .text = long_text(60), .n_prompt = 300, .n_continuation = 40, .n_samples = 3}};
    const std::vector<std::string> policies = {"streaming-llm"};
    const std::vector<int64_t> budgets = {40, 200, 1000};
    const auto outcome = fidelity(engine, texts, all_settings(policies, budgets, {}), {});
    ASSERT_FALSE(outcome.error) << outcome.error->message;
    const auto& rows = outcome.rows;
    ASSERT_EQ(rows.size(), 3U);
    const auto figure = [&](size_t row, size_t i) { return rows[row].figures[i].value; };
    EXPECT_GT(figure(0, 0), figure(1, 0));
    EXPECT_GT(figure(1, 0), 1e-6);
    EXPECT_LT(figure(0, 1), 1);
    // Row 2 has KL, agreement and perplexity ratio without eviction.
    EXPECT_EQ(rows[0].subtask, "rain");
    EXPECT_NEAR(figure(2, 0), 0, 1e-9);
    EXPECT_EQ(figure(2, 1), 1);
    EXPECT_NEAR(figure(2, 2), 1, 1e-9);
    EXPECT_EQ(rows[0].n_samples, 3U);

    const std::vector<FidelityInput> too_short = {
        {.name = "rain", .text = "the rain", .n_prompt = 300, .n_continuation = 40}};
    const auto refused = fidelity(engine, too_short, settings(), {});
    ASSERT_TRUE(refused.error.has_value());
    EXPECT_TRUE(refused.error->message.starts_with("rain: has "));
}

}  // namespace
}  // namespace cake::eval
