#include "text/template_renderer.hpp"

namespace cake {

bool can_render_templates() {
    return false;
}

Result<std::string> render_template(std::string_view /*source*/, std::string_view /*context_json*/) {
    return fail(Error::Code::unsupported, "this build of cake renders no chat templates (CAKE_BRIDGE is OFF)");
}

}  // namespace cake
