#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "eval/sample.hpp"

namespace cake::eval {

/// Share of a sample's answers that occur in the prediction, ignoring case (RULER).
double contains_all(std::string_view prediction, const Sample& sample);
/// 1 if any of a sample's answers occurs in the prediction, ignoring case (RULER's qa).
double contains_any(std::string_view prediction, const Sample& sample);
/// 1 if the last number in the prediction is an answer (LongEval).
double last_number(std::string_view prediction, const Sample& sample);

/// LongBench's metrics. Each returns the best score over a sample's answers. Words are separated by white space.
double qa_f1(std::string_view prediction, const Sample& sample);  // F1 of words, ignoring case, punctuation, articles
double qa_f1_zh(std::string_view prediction, const Sample& sample);  // F1 of characters, since Chinese has no spaces
double rouge_l(std::string_view prediction, const Sample& sample);   // F1 of the longest common subsequence of words
double classification(std::string_view prediction, const Sample& sample);
double number_share(std::string_view prediction, const Sample& sample);  // share of correct numbers in the prediction
double code_similarity(std::string_view prediction, const Sample& sample);  // first line: 2 LCS / (characters of both)

/// LongBench v2: 1 if the first "The correct answer is (X)", or without one the first "The correct answer is X", names
/// the letter of the answer.
double answer_letter(std::string_view prediction, const Sample& sample);

/// A 95 % confidence interval.
struct Interval {
    double low = 0;
    double high = 0;
};

/// Interval of the mean of scores between 0 and 1. Wilson's interval, which is also valid for means near 0 and 1, if
/// all scores are 0 or 1; otherwise Student's, clamped to [0, 1]. Empty if there are no scores or Student's is empty.
std::optional<Interval> confidence(std::span<const double> scores);
/// Student's interval of the mean of any numbers. Empty if there are fewer than two, or if all are equal.
std::optional<Interval> student_confidence(std::span<const double> values);

double mean(std::span<const double> values);

}  // namespace cake::eval
