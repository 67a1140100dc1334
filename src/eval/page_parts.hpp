#pragma once

#include <string_view>

namespace cake::eval {

/// Files that the build embeds into the program (cmake/embed.cmake): our page, its script, and Chart.js.
extern const std::string_view kInspectionPage;
extern const std::string_view kInspectionJs;
extern const std::string_view kChartJs;

}  // namespace cake::eval
