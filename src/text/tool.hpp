#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace cake {

/// A function that a model may call.
struct Tool {
    std::string name;
    nlohmann::ordered_json parameters = nlohmann::ordered_json::object();  // JSON schema of its arguments, an object
};

/// A call that a model wrote.
struct ToolCall {
    std::string id;         // as the model wrote it; empty if its format has none
    std::string name;       // name of one of the tools
    std::string arguments;  // a JSON object
};

/// True if a JSON schema allows only texts. Some formats write these without quotes.
inline bool is_text_schema(const nlohmann::ordered_json& schema) {
    const auto type = schema.is_object() ? schema.find("type") : schema.end();
    return schema.is_object() && type != schema.end() && *type == "string";
}

}  // namespace cake
