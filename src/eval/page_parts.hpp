#pragma once

#include <string_view>

namespace cake::eval {

/// Files that the build puts into the program (cmake/embed.cmake): our page and its script, and Chart.js.
extern const std::string_view kInspectionPage;
extern const std::string_view kInspectionJs;
extern const std::string_view kChartJs;

}  // namespace cake::eval
