#include "eval/questions.hpp"

#include <gtest/gtest.h>

#include <set>

#include "eval/metrics.hpp"

namespace cake::eval {
namespace {

Sample sample() {
    return {.prompt = "red: 11, blue: 22, green: 33. What is red? It is",
            .answer_begin = " red:",
            .answers = {"11"},
            .metric = contains_all,
            .facts = {{.key = "red", .value = "11"}, {.key = "blue", .value = "22"}, {.key = "green", .value = "33"}},
            .asked = "red"};
}

TEST(WithMoreQuestions, ReplacesTheKeyInTheQuestionAlone) {
    const auto all = with_more_questions({sample()}, 3, 1);
    ASSERT_EQ(all.size(), 3U);
    EXPECT_EQ(all[0].prompt, sample().prompt);
    std::set<std::string> seen;
    for (const auto& one : all) {
        EXPECT_EQ(one.prompt, "red: 11, blue: 22, green: 33. What is " + one.asked + "? It is");
        EXPECT_EQ(one.answer_begin, " " + one.asked + ":");
        EXPECT_EQ(one.answers.front(), one.asked == "red" ? "11" : one.asked == "blue" ? "22" : "33");
        seen.insert(one.asked);
    }
    EXPECT_EQ(seen.size(), 3U);
}

TEST(WithMoreQuestions, AsksNoFactTwiceAndLeavesTextsWithoutFactsAlone) {
    auto plain = sample();
    plain.facts.clear();
    const auto all = with_more_questions({sample(), plain}, 10, 1);
    ASSERT_EQ(all.size(), 4U) << "three facts, and the plain sample";
    EXPECT_EQ(all[3].prompt, plain.prompt);
    EXPECT_EQ(with_more_questions({sample()}, 1, 1).size(), 1U);
}

}  // namespace
}  // namespace cake::eval
