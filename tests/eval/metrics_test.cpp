#include "eval/metrics.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace cake::eval {
namespace {

Sample answers(std::vector<std::string> answers, std::vector<std::string> classes = {}) {
    return {.answers = std::move(answers), .classes = std::move(classes)};
}

TEST(ContainsAll, IsTheShareOfTheAnswersThatStandThere) {
    EXPECT_EQ(contains_all(" 7293, 4400 and 1", answers({"7293", "4400", "5511", "6600"})), 0.5);
    EXPECT_EQ(contains_all("The Silver FALCON", answers({"silver falcon"})), 1);
    EXPECT_EQ(contains_all("", answers({"x"})), 0);
}

TEST(ContainsAny, IsWhetherOneAnswerStandsThere) {
    EXPECT_EQ(contains_any("it was Paris", answers({"London", "paris"})), 1);
    EXPECT_EQ(contains_any("it was Rome", answers({"London", "paris"})), 0);
}

TEST(LastNumber, IsComparedInWhole) {
    EXPECT_EQ(last_number("line 7 holds <1234>", answers({"1234"})), 1);
    EXPECT_EQ(last_number("91234", answers({"1234"})), 0) << "a part of a number is none";
    EXPECT_EQ(last_number("1234, or 99", answers({"1234"})), 0);
    EXPECT_EQ(last_number("none", answers({"1234"})), 0);
}

TEST(QaF1, CountsWordsWithoutCasePunctuationAndArticles) {
    // predicted: big red dog (3), true: red dog runs fast (4), common: 2. P = 2/3, R = 1/2.
    EXPECT_NEAR(qa_f1("The big, red dog!", answers({"a red dog runs fast"})), 4.0 / 7, 1e-12);
    EXPECT_EQ(qa_f1("Paris", answers({"London", "paris."})), 1) << "the best answer counts";
    EXPECT_EQ(qa_f1("", answers({"paris"})), 0);
    // A word counts as often as it occurs in both: predicted 3, true 2, common 2.
    EXPECT_NEAR(qa_f1("no no no", answers({"no no"})), 0.8, 1e-12);
}

TEST(QaF1Zh, CountsCharacters) {
    // predicted 厦门 (2), true 厦门大学 (4), common 2: P = 1, R = 1/2.
    EXPECT_NEAR(qa_f1_zh("厦门。", answers({"厦门大学。"})), 2.0 / 3, 1e-12);
    EXPECT_EQ(qa_f1_zh("北京", answers({"厦门大学"})), 0);
}

TEST(RougeL, IsTheF1OfTheLongestCommonSubsequence) {
    // Lin 2004, section 3.1: reference "police killed the gunman".
    EXPECT_NEAR(rouge_l("police kill the gunman", answers({"police killed the gunman"})), 0.75, 1e-12);
    EXPECT_NEAR(rouge_l("the gunman kill police", answers({"police killed the gunman"})), 0.5, 1e-12);
    EXPECT_EQ(rouge_l("", answers({"police"})), 0);
}

TEST(Classification, SharesThePointAmongTheClassesNamed) {
    const std::vector<std::string> classes = {"Date", "Number", "Number of something", "City"};
    EXPECT_EQ(classification("Type: Date", answers({"Date"}, classes)), 1);
    EXPECT_EQ(classification("Date or City", answers({"Date"}, classes)), 0.5);
    EXPECT_EQ(classification("City", answers({"Date"}, classes)), 0);
    EXPECT_EQ(classification("Number of something", answers({"Number of something"}, classes)), 1)
        << "the shorter name is part of the right one";
    EXPECT_EQ(classification("Number of something", answers({"Number"}, classes)), 0.5);
}

TEST(NumberShare, IsTheShareOfTheNumbersThatAreRight) {
    EXPECT_EQ(number_share("Paragraph 12", answers({"Paragraph 12"})), 1);
    EXPECT_EQ(number_share("3 or 12 or 12", answers({"段落12"})), 2.0 / 3);
    EXPECT_EQ(number_share("12", answers({"1"})), 0) << "a part of a number is none";
    EXPECT_EQ(number_share("none", answers({"1"})), 0);
}

TEST(CodeSimilarity, ComparesTheFirstLineOfCode) {
    EXPECT_EQ(code_similarity("\n// a comment\nreturn x;\nmore", answers({"return x;"})), 1);
    // "abcd" and "abxd" have 8 characters, and their longest common subsequence has 3: 2 * 3 / 8.
    EXPECT_NEAR(code_similarity("abcd", answers({"abxd"})), 0.75, 1e-12);
    EXPECT_EQ(code_similarity("```\n", answers({"x"})), 0);
    EXPECT_EQ(code_similarity("# a comment\n\nreturn x;", answers({"return x;"})), 0) << "the first line left is empty";
    EXPECT_NEAR(code_similarity("äb", answers({"äc"})), 0.5, 1e-12) << "characters, not bytes";
}

TEST(AnswerLetter, ReadsTheLetterThatTheAnswerNames) {
    EXPECT_EQ(answer_letter("The correct answer is (B), since", answers({"B"})), 1);
    EXPECT_EQ(answer_letter("The correct answer is **B**", answers({"B"})), 1);
    EXPECT_EQ(answer_letter("The correct answer is (C)", answers({"B"})), 0);
    EXPECT_EQ(answer_letter("B", answers({"B"})), 0);
    EXPECT_EQ(answer_letter("The correct answer is (", answers({"B"})), 0);
    EXPECT_EQ(answer_letter("The correct answer is (insert answer here). The correct answer is (B)", answers({"B"})),
              1);
    EXPECT_EQ(answer_letter("The correct answer is C. The correct answer is (B)", answers({"B"})), 1);
}

TEST(Confidence, IsWilsonsForRightAndWrong) {
    // 8 of 10: Wilson's 95 % interval is 0.490 to 0.943 (Brown, Cai and DasGupta 2001).
    const auto interval = confidence(std::vector<double>{1, 1, 1, 1, 1, 1, 1, 1, 0, 0});
    ASSERT_TRUE(interval.has_value());
    EXPECT_NEAR(interval->low, 0.4902, 1e-4);
    EXPECT_NEAR(interval->high, 0.9433, 1e-4);
    const auto all = confidence(std::vector<double>(10, 1.0));
    ASSERT_TRUE(all.has_value());
    EXPECT_NEAR(all->low, 0.7225, 1e-4);
    EXPECT_NEAR(all->high, 1, 1e-12);
}

TEST(Confidence, IsStudentsForShares) {
    // Mean 0.5, variance 0.5/3; Student's 97.5 % quantile with 3 degrees of freedom is 3.182.
    const std::vector<double> scores = {0.1, 0.5, 0.5, 0.9};
    const double half = 3.182446 * std::sqrt(0.32 / 3 / 4);
    const auto interval = student_confidence(scores);
    ASSERT_TRUE(interval.has_value());
    EXPECT_NEAR(interval->low, 0.5 - half, 0.01 * half);
    EXPECT_NEAR(interval->high, 0.5 + half, 0.01 * half);
    EXPECT_EQ(confidence(scores)->low, 0) << "a score is never below 0";
    // 2 values, 1 degree of freedom: 12.706.
    EXPECT_NEAR(student_confidence(std::vector<double>{1, 3})->high, 2 + 12.7062, 1e-9);
    // 30 degrees of freedom: 2.042.
    std::vector<double> many(31, 0.0);
    many[0] = 31;
    const double deviation = std::sqrt((30.0 * 30 + 30) / 30 / 31);
    EXPECT_NEAR(student_confidence(many)->high, 1 + 2.0423 * deviation, 0.001 * deviation);
}

TEST(Confidence, IsNotKnownFromOneValueOrFromEqualShares) {
    EXPECT_FALSE(student_confidence(std::vector<double>{0.3}).has_value());
    EXPECT_FALSE(student_confidence(std::vector<double>{0.3, 0.3}).has_value());
    EXPECT_FALSE(confidence(std::vector<double>{0.75, 0.75}).has_value());
    EXPECT_FALSE(confidence({}).has_value());
}

}  // namespace
}  // namespace cake::eval
