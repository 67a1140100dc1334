#pragma once

#include <string>
#include <vector>

#include "server/body.hpp"
#include "text/tool.hpp"
#include "text/tool_grammar.hpp"

namespace cake::server {

/// The fields `tools`, `tool_choice` and `parallel_tool_calls` of a chat completion.
struct ToolFields {
    std::vector<Tool> callable{};  // those that the choice allows; empty: none
    std::string json{};            // the field `tools`, for the chat template; empty: none
    ToolChoice choice{};
};

ToolFields read_tools(Body& body);

}  // namespace cake::server
