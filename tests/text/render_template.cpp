// Renders one template per line of standard input, {"template": …, "context": …}, and writes one line per template,
// {"text": …} or {"error": …}.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "text/template_renderer.hpp"

int main() {
    using Json = nlohmann::ordered_json;
    std::ios::sync_with_stdio(false);
    for (std::string line; std::getline(std::cin, line);) {
        const auto job = Json::parse(line);
        const auto text = cake::render_template(job["template"].get<std::string>(), job["context"].dump());
        const Json answer = text ? Json{{"text", *text}} : Json{{"error", text.error().message}};
        std::cout << answer.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n' << std::flush;
    }
}
