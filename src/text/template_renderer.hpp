#pragma once

#include <string>
#include <string_view>

#include "cake/error.hpp"

namespace cake {

/// True if this build can render templates (bridge/). If not, only the templates that libllama knows are available.
bool can_render_templates();

/// Renders a Jinja template with the variables in a JSON object, in the same way as transformers. An error names the
/// line of the template. The size of the variables bounds time and memory.
Result<std::string> render_template(std::string_view source, std::string_view context_json);

}  // namespace cake
