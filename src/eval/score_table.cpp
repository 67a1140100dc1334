#include "eval/score_table.hpp"

#include <algorithm>
#include <cmath>

#include "eval/metrics.hpp"

namespace cake::eval {

namespace {

constexpr double kAllDepths = -1;

/// Mean over the subtasks with equal weights. The interval assumes that the subtasks are independent.
Row average(const std::vector<Row>& parts) {
    Row row = parts.front();
    row.subtask = "average";
    row.n_samples = 0;
    double value = 0;
    double square = 0;
    for (const auto& part : parts) {
        const Figure& figure = part.figures.front();
        const auto n = static_cast<double>(parts.size());
        const Interval interval = figure.interval.value_or(Interval{figure.value, figure.value});
        value += figure.value / n;
        square += std::pow((interval.high - interval.low) / 2 / n, 2);
        row.n_samples += part.n_samples;
    }
    const double half = std::sqrt(square);
    row.figures = {{.name = "score",
                    .value = value,
                    .interval = Interval{std::max(value - half, 0.0), std::min(value + half, 1.0)}}};
    return row;
}

}  // namespace

/// The cells that a sample counts toward.
std::vector<ScoreTable::Cell> ScoreTable::cells_of(const Sample& sample) {
    std::vector<Cell> cells;
    const std::vector<std::string> one(1);
    for (const auto& subtask : sample.subtasks.empty() ? one : sample.subtasks) {
        cells.emplace_back(subtask, sample.length_tokens, kAllDepths);
        if (sample.depth >= 0) cells.emplace_back(subtask, sample.length_tokens, sample.depth);
    }
    return cells;
}

void ScoreTable::add(const Sample& sample, const std::vector<double>& scores) {
    for (const auto& cell : cells_of(sample)) {
        if (!std::ranges::contains(cells_, cell)) cells_.push_back(cell);
        for (size_t s = 0; s < scores.size(); s++) scores_[{cell, s}].push_back(scores[s]);
    }
}

std::vector<Row> ScoreTable::rows(std::span<const Setting> settings, bool with_average) const {
    std::vector<Row> rows;
    for (size_t s = 0; s < settings.size(); s++) add_rows(settings[s], s, with_average, rows);
    return rows;
}

void ScoreTable::add_rows(const Setting& setting, size_t number, bool with_average, std::vector<Row>& rows) const {
    std::map<int64_t, std::vector<Row>> pooled;  // rows over all depths, by length
    for (const auto& cell : cells_) {
        const auto& values = scores_.at({cell, number});
        rows.push_back({.policy = setting.policy,
                        .budget = setting.budget,
                        .subtask = std::get<0>(cell),
                        .length_tokens = std::get<1>(cell),
                        .depth = std::get<2>(cell),
                        .n_samples = values.size(),
                        .figures = {{.name = "score", .value = mean(values), .interval = confidence(values)}}});
        if (rows.back().depth == kAllDepths) pooled[rows.back().length_tokens].push_back(rows.back());
    }
    if (!with_average) return;
    for (const auto& [length, parts] : pooled) {
        if (parts.size() > 1) rows.push_back(average(parts));
    }
}

}  // namespace cake::eval
