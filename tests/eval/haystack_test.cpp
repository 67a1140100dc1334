#include "eval/haystack.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <ranges>
#include <set>

#include "eval/task.hpp"

namespace cake::eval {
namespace {

/// Number of words, which are the tokens of these tests.
int64_t count_words(std::string_view text) {
    int64_t n = 0;
    bool inside = false;
    for (const char c : text) {
        const bool space = c == ' ' || c == '\n';
        n += !space && !inside ? 1 : 0;
        inside = !space;
    }
    return n;
}

/// A model with one token before every text and nine tokens of chat template.
TokenCounter counter() {
    return {.count = count_words, .n_first = 1, .n_template = 9};
}

constexpr MakePuzzle kPuzzles[] = {single, multikey, multivalue, tracking, frequent, ledger, reasoning};

TEST(Bury, FillsTheLengthAndKeepsEveryNeedleInOrder) {
    for (const auto wording : {Wording::bundled, Wording::published}) {
        for (const auto make : kPuzzles) {
            for (uint64_t seed = 1; seed <= 20; seed++) {
                SCOPED_TRACE(seed);
                Random random(seed);
                const Puzzle puzzle = make(wording, random, 800);
                const auto sample = bury(puzzle, generated_filler(random), 800, -1, random, counter());
                ASSERT_TRUE(sample) << sample.error().message;
                const int64_t n_tokens = 1 + count_words(sample->prompt) + count_words(sample->answer_begin) +
                                         sample->max_tokens + (sample->chat ? 9 : 0);
                EXPECT_LE(n_tokens, 800);
                EXPECT_GT(n_tokens, 800 - 25) << "a sentence is shorter";
                EXPECT_TRUE(sample->prompt.starts_with(puzzle.before));
                EXPECT_TRUE(sample->prompt.ends_with(puzzle.question));
                EXPECT_EQ(sample->answers, puzzle.answers);
                size_t at = 0;
                for (size_t i = 0; i < puzzle.n_asked; i++) {
                    const auto found = sample->prompt.find(puzzle.needles[i], at);
                    ASSERT_NE(found, std::string::npos) << puzzle.needles[i] << "\n" << sample->prompt;
                    at = found + 1;
                }
                for (const auto& needle : puzzle.needles) EXPECT_NE(sample->prompt.find(needle), std::string::npos);
            }
        }
    }
}

TEST(Bury, FillsWithTextsThatHaveNoSentences) {
    std::string code;
    for (int i = 0; i < 3000; i++) code += "x" + std::to_string(i) + (i % 9 == 8 ? "\n" : " ");
    const auto sentences = split_sentences(code);
    Random random(1);
    const auto sample =
        bury(single(Wording::bundled, random, 1000), text_filler(sentences, random), 1000, 0.5, random, counter());
    ASSERT_TRUE(sample) << sample.error().message;
    EXPECT_GT(count_words(sample->prompt), 900);
}

TEST(Bury, PutsTheNeedleAtItsDepth) {
    Random random(3);
    const Puzzle puzzle = single(Wording::bundled, random, 1000);
    for (const double depth : {0.0, 0.25, 0.5, 0.75, 1.0}) {
        const auto sample = bury(puzzle, repeated_filler(), 1000, depth, random, counter());
        ASSERT_TRUE(sample);
        const auto text = sample->prompt.size() - puzzle.question.size() - puzzle.needles[0].size();
        const auto at = static_cast<double>(sample->prompt.find(puzzle.needles[0])) / static_cast<double>(text);
        EXPECT_NEAR(at, depth, 0.01);
    }
}

TEST(Puzzle, AnswersFollowFromTheNeedles) {
    for (uint64_t seed = 1; seed <= 200; seed++) {
        Random random(seed);
        const Puzzle chain = tracking(Wording::bundled, random, 500);
        // Follow the chain back from the name asked for to the number.
        std::string name = chain.question.substr(chain.question.find("value of ") + 9);
        name.erase(name.find('?'));
        std::string value;
        while (value.empty()) {
            const auto fact = std::ranges::find_if(chain.needles, [&](const std::string& needle) {
                return needle.starts_with("The value of " + name + " is ");
            });
            ASSERT_NE(fact, chain.needles.end()) << name;
            std::string rest = fact->substr(("The value of " + name + " is ").size());
            rest.pop_back();
            if (rest.starts_with("the value of ")) {
                name = rest.substr(13);
            } else {
                value = rest;
            }
        }
        EXPECT_EQ(chain.answers, std::vector{value});

        const Puzzle most = frequent(Wording::bundled, random, 500);
        const auto& list = most.needles[0];
        std::map<std::string, int> counts;
        for (const auto word :
             std::views::split(list.substr(list.find(": ") + 2, list.size() - list.find(": ") - 3), ' '))
            counts[std::string(std::string_view(word))]++;
        const auto top = std::ranges::max_element(counts, {}, [](const auto& entry) { return entry.second; });
        EXPECT_EQ(top->first, most.answers[0]);
        EXPECT_EQ(std::ranges::count(counts, top->second, [](const auto& entry) { return entry.second; }), 1);
    }
}

TEST(Puzzle, ValuesOfTheBundledWordingAreThoseThatTrainingLeftOut) {
    for (uint64_t seed = 1; seed <= 500; seed++) {
        Random random(seed);
        const int value = std::stoi(single(Wording::bundled, random, 500).answers[0]);
        EXPECT_EQ(value % 11, 0);
        EXPECT_TRUE(value >= 1000 && value <= 9999) << value;
    }
}

TaskInput input(std::vector<int64_t> lengths, int32_t n_samples) {
    return {.lengths = std::move(lengths),
            .depths = {0, 1},
            .n_samples = n_samples,
            .counter = counter(),
            .warn = {},
            .progress = {}};
}

TEST(Samples, AreTheSameForASeedHoweverManyAreMade) {
    const auto few = ruler_samples(input({400}, 2));
    const auto many = ruler_samples(input({300, 400}, 3));
    ASSERT_TRUE(few && many);
    std::set<std::string> prompts;
    for (const auto& sample : *many) prompts.insert(sample.prompt);
    EXPECT_EQ(prompts.size(), many->size()) << "no two are the same";
    for (const auto& sample : *few) EXPECT_TRUE(prompts.contains(sample.prompt));
    auto other = input({400}, 2);
    other.seed = 2;
    const auto reseeded = ruler_samples(other);
    ASSERT_TRUE(reseeded);
    for (const auto& sample : *reseeded) EXPECT_FALSE(prompts.contains(sample.prompt));
}

TEST(Samples, OfALedgerAskForTheLastValueOfAKey) {
    for (const auto wording : {Wording::bundled, Wording::published}) {
        auto some = input({900}, 5);
        some.wording = wording;
        const auto samples = ledger_samples(some);
        ASSERT_TRUE(samples);
        for (const auto& sample : *samples) {
            ASSERT_EQ(sample.facts.size(), 3U) << "one for each 256 tokens";
            std::set<std::string> values;
            for (const auto& word : std::views::split(sample.prompt, ' ')) {
                const std::string text(word.begin(), word.end());
                if (text.size() >= 4 &&
                    std::ranges::all_of(text.substr(0, 4), [](unsigned char c) { return std::isdigit(c); }))
                    values.insert(text.substr(0, 4));
            }
            EXPECT_EQ(values.size(), 12U) << "no value is stated twice";
            EXPECT_EQ(sample.answers, std::vector{sample.facts.front().value});
            const auto text = sample.prompt.substr(0, sample.question_begin);
            for (const auto& [key, value] : sample.facts) {
                const auto last = text.substr(text.rfind(key));
                EXPECT_TRUE(last.substr(0, last.find('.')).contains(value)) << last;
                EXPECT_NE(text.find(key), text.rfind(key)) << "stated several times";
            }
            EXPECT_TRUE(sample.prompt.substr(sample.question_begin).contains(sample.asked));
        }
    }
}

TEST(Samples, OfALongLedgerHaveEnoughValues) {
    auto random = Random(1);
    EXPECT_EQ(ledger(Wording::bundled, random, 1'000'000).facts.size(), 200U);
}

TEST(Samples, RefuseALengthThatCannotHoldTheFacts) {
    const auto samples = niah_samples(input({10}, 1));
    ASSERT_FALSE(samples);
    EXPECT_NE(samples.error().message.find("10 tokens are too few"), std::string::npos);
}

TEST(Filler, SentencesOfATextAreCutAtTheirEnds) {
    EXPECT_EQ(split_sentences("One two.\nThree\n four!  Five? six"),
              (std::vector<std::string>{"One two.", "Three four!", "Five?", "six"}));
    for (const auto& part : split_sentences(std::string(5000, 'x') + " " + std::string(5000, 'y')))
        EXPECT_LE(part.size(), 600U);
    std::string words;
    for (int i = 0; i < 500; i++) words += "word ";
    EXPECT_GT(split_sentences(words).size(), 6U);
    EXPECT_TRUE(split_sentences(" \n ").empty());
}

TEST(Filler, GeneratedSentencesHardlyRepeat) {
    Random random(1);
    const auto filler = generated_filler(random);
    std::multiset<std::string> sentences;
    for (int i = 0; i < 300; i++) sentences.insert(filler());
    EXPECT_GT(std::set<std::string>(sentences.begin(), sentences.end()).size(), 220U);
}

}  // namespace
}  // namespace cake::eval
