#pragma once

#include <string>

#include "server/body.hpp"
#include "text/tool.hpp"

namespace cake::server {

/// The text of a field; empty if the field is missing or no text. `object` must be a JSON object.
std::string string_of(const Json& object, const char* name);

/// A call as an assistant's message of a chat completion has it.
Json call_json(Json id, Json name, Json arguments);
inline Json call_json(const ToolCall& call) {
    return call_json(call.id, call.name, call.arguments);
}

/// A tool of another API as that of a chat completion. `parameters`: name of the field with the schema.
Json tool_json(const Json& tool, const char* parameters);
/// The value of `tool_choice` for the tool that `choice` names.
Json choice_json(const Json& choice);

}  // namespace cake::server
