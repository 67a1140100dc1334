#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "eval/sample.hpp"

namespace cake::eval {

/// The share of a sample's answers that stand in the prediction, whatever the case of the letters (RULER).
double contains_all(std::string_view prediction, const Sample& sample);
/// Whether any of them does (RULER's qa).
double contains_any(std::string_view prediction, const Sample& sample);
/// Whether the prediction's last number is the answer (LongEval).
double last_number(std::string_view prediction, const Sample& sample);

/// LongBench's metrics, each the best over a sample's answers. Words are what white space separates.
double qa_f1(std::string_view prediction, const Sample& sample);     // of words, without case, punctuation and articles
double qa_f1_zh(std::string_view prediction, const Sample& sample);  // of characters, as there are no spaces
double rouge_l(std::string_view prediction, const Sample& sample);   // F1 of the longest common subsequence of words
double classification(std::string_view prediction, const Sample& sample);
double number_share(std::string_view prediction, const Sample& sample);     // of its numbers, how many are the answer's
double code_similarity(std::string_view prediction, const Sample& sample);  // 2 LCS / (characters of both), first line

/// LongBench v2: whether the first "The correct answer is (X)" names the answer's letter; where there is none, the
/// first "The correct answer is X".
double answer_letter(std::string_view prediction, const Sample& sample);

/// A 95 % confidence interval.
struct Interval {
    double low = 0;
    double high = 0;
};

/// Of the mean of scores between 0 and 1. Wilson's, which is good at 0 and 1 too, where all of them are 0 or 1;
/// Student's within 0 and 1 otherwise.
std::optional<Interval> confidence(std::span<const double> scores);
/// Of the mean of numbers of any size: Student's. None where there are fewer than two, or no two that differ.
std::optional<Interval> student_confidence(std::span<const double> values);

double mean(std::span<const double> values);

}  // namespace cake::eval
