#include "server/tool_fields.hpp"
#include "text/json_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace cake::server {

namespace {

constexpr size_t kMaxTools = 512;

bool is_name(const Json& name) {
    constexpr size_t kMaxBytes = 128;
    const auto* text = name.get_ptr<const std::string*>();
    return text != nullptr && !text->empty() && text->size() <= kMaxBytes && std::ranges::all_of(*text, [](char c) {
               return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.';
           });
}

std::vector<Tool> read_list(Body& body, const Json& list) {
    std::vector<Tool> tools;
    if (!list.is_array() || list.size() > kMaxTools) {
        body.wrong("tools", fmt::format("tools must be an array of up to {} tools", kMaxTools));
        return tools;
    }
    for (size_t i = 0; i < list.size(); i++) {
        const auto& item = list[i];
        const auto type = item.is_object() ? item.value("type", Json("function")) : Json();
        const auto function = type == "function" ? item.value("function", Json()) : Json();
        const auto name = function.is_object() ? function.value("name", Json()) : Json();
        if (!is_name(name)) {
            body.wrong("tools", fmt::format("tools[{}] must be {{\"type\": \"function\", \"function\": {{\"name\": …, "
                                            "\"parameters\": …}}}}, with a name of letters, digits, _, - and .",
                                            i));
            return tools;
        }
        Tool tool{.name = name.get<std::string>()};
        const auto parameters = function.value("parameters", Json());
        if (!parameters.is_object() && !parameters.is_null()) {
            body.wrong("tools",
                       fmt::format("tools[{}].function.parameters must be a JSON schema, which is an object", i));
            return tools;
        }
        if (parameters.is_object()) tool.parameters = parameters;
        if (std::ranges::contains(tools, tool.name, &Tool::name)) {
            body.wrong("tools", fmt::format("tools[{}] has the name \"{}\" of another tool", i, tool.name));
            return tools;
        }
        tools.push_back(std::move(tool));
    }
    return tools;
}

/// Reads the choice. Returns the name of the tool that it requires, if it names one.
std::string read_choice(Body& body, ToolFields& fields) {
    const Json* choice = body.find("tool_choice");
    if (choice == nullptr || *choice == "auto") return {};
    if (*choice == "none") {
        fields.callable.clear();
        return {};
    }
    if (*choice == "required" || *choice == "any") {
        fields.choice.is_required = true;
        return {};
    }
    const auto function = choice->is_object() ? choice->value("function", Json()) : Json();
    const auto name = function.is_object() ? function.value("name", Json()) : Json();
    if (!name.is_string()) {
        body.wrong("tool_choice",
                   "tool_choice must be \"none\", \"auto\", \"required\", or "
                   "{\"type\": \"function\", \"function\": {\"name\": …}}");
        return {};
    }
    fields.choice.is_required = true;
    return name.get<std::string>();
}

}  // namespace

ToolFields read_tools(Body& body) {
    ToolFields fields;
    const Json* list = body.find("tools");
    if (list != nullptr) {
        fields.callable = read_list(body, *list);
        if (!fields.callable.empty()) fields.json = json_text(*list);
    }
    const auto name = read_choice(body, fields);
    if (!name.empty()) std::erase_if(fields.callable, [&](const Tool& tool) { return tool.name != name; });
    if (fields.choice.is_required && fields.callable.empty()) {
        body.wrong("tool_choice", name.empty()
                                      ? std::string("tool_choice requires a call, but there are no tools")
                                      : fmt::format("tool_choice names a tool that is not in tools: \"{}\"", name));
    }
    fields.choice.is_parallel = body.flag("parallel_tool_calls").value_or(true);
    return fields;
}

}  // namespace cake::server
