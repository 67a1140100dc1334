#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "eval/metrics.hpp"

namespace cake::eval {

/// A mean with its 95 % confidence interval.
struct Figure {
    std::string name;  // "accuracy", "kl", …
    double value = 0;
    std::optional<Interval> interval;  // empty if it cannot be computed
};

/// Result of one policy and budget on one kind of sample.
struct Row {
    std::string policy;
    int64_t budget = 0;  // tokens per layer; 0: no bound
    std::string subtask;
    int64_t length_tokens = 0;  // 0: samples of any length
    double depth = -1;          // 0 to 1; -1: average over all depths, or not set
    size_t n_samples = 0;
    std::vector<Figure> figures;  // same names in all rows; the first one is plotted
};

/// Markdown table with one row per policy, budget, subtask and length, and one column per depth for the first figure.
/// Columns without content are omitted.
std::string to_table(const std::vector<Row>& rows);
std::string to_csv(const std::vector<Row>& rows);
std::string to_json(const std::vector<Row>& rows, const std::string& task, const std::string& model);

}  // namespace cake::eval
