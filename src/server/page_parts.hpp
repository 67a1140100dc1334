#pragma once

#include <string_view>

namespace cake::server {

/// The files of the page at /, put into the program when it is built.
extern const std::string_view kPageHtml;
extern const std::string_view kPageCss;
extern const std::string_view kPageJs;

}  // namespace cake::server
