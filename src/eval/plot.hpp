#pragma once

#include <span>
#include <string>

#include "cake/error.hpp"
#include "eval/results.hpp"

namespace cake::eval {

/// gnuplot commands that draw the first figure of the rows: a panel for each subtask and length, with the budget on the
/// x axis and a line for each policy. Policies without a budget are horizontal lines.
std::string line_plot(std::span<const Row> rows, const std::string& title);

/// gnuplot commands that draw the first figure by depth and length, as colour and number: a panel for each policy and
/// budget.
std::string heat_map(std::span<const Row> rows, const std::string& title);

/// Checks that gnuplot is installed; the error says how to install it.
Result<void> check_plotter();

/// Runs gnuplot commands and writes the SVG to `path`. The file is written completely or not at all.
Result<void> draw_svg(const std::string& commands, const std::string& path);

}  // namespace cake::eval
