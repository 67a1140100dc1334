#pragma once

#include <span>
#include <string>

#include "cake/error.hpp"
#include "eval/results.hpp"

namespace cake::eval {

/// gnuplot's commands for a picture of the rows: a panel for each subtask, length and first figure, with the budget on
/// the x axis and a line for each policy; policies without a budget are level lines.
std::string line_plot(std::span<const Row> rows, const std::string& title);

/// The same by depth and length: a panel for each policy and budget, its figure as colour and number.
std::string heat_map(std::span<const Row> rows, const std::string& title);

/// Whether gnuplot is there to draw; the error says how to get it.
Result<void> check_plotter();

/// Draws as SVG; the file is there in whole or not at all.
Result<void> draw_svg(const std::string& commands, const std::string& path);

}  // namespace cake::eval
