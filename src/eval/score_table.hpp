#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "eval/results.hpp"
#include "eval/runner.hpp"
#include "eval/sample.hpp"

namespace cake::eval {

/// The scores of all samples under all settings, averaged by subtask, length and depth, and over all depths.
class ScoreTable {
  public:
    /// `scores`: one per setting.
    void add(const Sample& sample, const std::vector<double>& scores);
    /// `with_average`: adds a row with the mean over the subtasks to each setting and length.
    std::vector<Row> rows(std::span<const Setting> settings, bool with_average) const;

  private:
    using Cell = std::tuple<std::string, int64_t, double>;  // subtask, length and depth; depth -1: all depths
    static std::vector<Cell> cells_of(const Sample& sample);
    void add_rows(const Setting& setting, size_t number, bool with_average, std::vector<Row>& rows) const;

    std::vector<Cell> cells_;  // in order of first occurrence
    std::map<std::pair<Cell, size_t>, std::vector<double>> scores_;
};

}  // namespace cake::eval
