#pragma once

#include <string>
#include <string_view>

#include "cake/error.hpp"

namespace cake {

/// Whether this build renders templates (bridge/); if not, it has those that libllama knows.
bool can_render_templates();

/// A Jinja template with the variables of a JSON object, as transformers renders it. An error names the line of the
/// template. Time and memory are bounded by the size of the variables.
Result<std::string> render_template(std::string_view source, std::string_view context_json);

}  // namespace cake
