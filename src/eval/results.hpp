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
    std::optional<Interval> interval;  // none where it cannot be known
};

/// What one policy and budget reached on one kind of sample.
struct Row {
    std::string policy;
    int64_t budget = 0;  // tokens a layer; 0: all of them
    std::string subtask;
    int64_t length_tokens = 0;  // 0: as the samples came
    double depth = -1;          // -1: all of them, or none in particular
    size_t n_samples = 0;
    std::vector<Figure> figures;  // the same for all rows; the first is the one that is plotted
};

/// For reading: a row for each policy, budget, subtask and length, with the first figure of every depth beside it, and
/// without columns that say nothing.
std::string to_table(const std::vector<Row>& rows);
std::string to_csv(const std::vector<Row>& rows);
std::string to_json(const std::vector<Row>& rows, const std::string& task, const std::string& model);

}  // namespace cake::eval
