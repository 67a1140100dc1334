#include "server/tool_json.hpp"

#include <utility>

namespace cake::server {

std::string string_of(const Json& object, const char* name) {
    const auto value = object.find(name);
    return value != object.end() && value->is_string() ? value->get<std::string>() : std::string();
}

Json call_json(Json id, Json name, Json arguments) {
    return {{"id", std::move(id)},
            {"type", "function"},
            {"function", {{"name", std::move(name)}, {"arguments", std::move(arguments)}}}};
}

Json tool_json(const Json& tool, const char* parameters) {
    Json function{{"name", tool.value("name", Json())}};
    if (tool.contains("description")) function["description"] = tool["description"];
    function["parameters"] = tool.value(parameters, Json::object());
    return {{"type", "function"}, {"function", std::move(function)}};
}

Json choice_json(const Json& choice) {
    return {{"type", "function"}, {"function", {{"name", choice.value("name", Json())}}}};
}

}  // namespace cake::server
