#include <fmt/format.h>

#include <algorithm>

#include "server/foreign_requests.hpp"
#include "server/tool_json.hpp"
#include "text/utf8.hpp"

namespace cake::server {

namespace {

/// The texts of a content, which is a string or an array of blocks.
ApiResult<std::string> text_of_blocks(const Json& content, const std::string& where) {
    if (content.is_null()) return std::string();
    if (content.is_string()) return content.get<std::string>();
    std::string text;
    const bool is_system = where == "system";
    if (!content.is_array()) return invalid(where + " must be a string or an array of blocks", "messages");
    // Claude Code puts a line about the account at the beginning of its system text, and it changes with each request.
    // Without it, the rest does not have to be read again.
    constexpr std::string_view kBilling = "x-anthropic-billing-header:";
    for (const auto& block : content) {
        const bool is_text = block.is_object() && block.value("type", Json()) == "text" && block.contains("text") &&
                             block["text"].is_string();
        if (!is_text) return invalid(where + " may only contain blocks of the type \"text\"", "messages");
        auto of_block = block["text"].get<std::string>();
        if (is_system && of_block.starts_with(kBilling)) of_block.erase(0, of_block.find('\n'));
        if (of_block.empty()) continue;
        text += (text.empty() ? "" : "\n") + of_block;
    }
    return text;
}

/// Appends a message to a chat, and the results of tools in it as messages of their own before it.
ApiResult<void> add_message(Json& chat, const Json& message, size_t i) {
    const auto where = fmt::format("messages[{}]", i);
    const auto role = message.is_object() ? string_of(message, "role") : std::string();
    if (role != "user" && role != "assistant" && role != "system")
        return invalid(where + ".role must be user or assistant", "messages");
    const auto content = message.value("content", Json());
    if (!content.is_array()) {
        auto text = text_of_blocks(content, where + ".content");
        if (!text) return std::unexpected(text.error());
        chat.push_back({{"role", role}, {"content", *text}});
        return {};
    }
    std::string text;
    std::string reasoning;
    Json calls = Json::array();
    for (const auto& block : content) {
        const auto type = block.is_object() ? string_of(block, "type") : std::string();
        if (type == "text") {
            text += (text.empty() ? "" : "\n") + string_of(block, "text");
        } else if (type == "thinking") {
            reasoning += string_of(block, "thinking");
        } else if (type == "redacted_thinking") {
            continue;
        } else if (type == "tool_use") {
            calls.push_back(call_json(block.value("id", Json("")), block.value("name", Json("")),
                                      block.value("input", Json::object())));
        } else if (type == "tool_result") {
            auto result = text_of_blocks(block.value("content", Json()), where + ".content, in a tool_result,");
            if (!result) return std::unexpected(result.error());
            chat.push_back(
                {{"role", "tool"}, {"tool_call_id", block.value("tool_use_id", Json(""))}, {"content", *result}});
        } else {
            return invalid(fmt::format("{}.content has a block of the type \"{}\", which is not supported", where,
                                       beginning_of(type)),
                           "messages");
        }
    }
    const bool is_results = text.empty() && calls.empty() && !content.empty() && role == "user";
    if (is_results) return {};
    Json read{{"role", role}, {"content", text}};
    if (!reasoning.empty()) read["reasoning_content"] = reasoning;
    if (!calls.empty()) read["tool_calls"] = std::move(calls);
    chat.push_back(std::move(read));
    return {};
}

/// The tools that the client runs. Those that Anthropic runs itself cannot be called here.
ApiResult<Json> tools_of_messages(const Json& tools) {
    Json read = Json::array();
    if (!tools.is_array()) return invalid("tools must be an array of tools", "tools");
    for (const auto& tool : tools) {
        if (!tool.is_object()) return invalid("tools must be an array of objects", "tools");
        const auto type = tool.value("type", Json());
        if (!type.is_null() && type != "custom") continue;
        read.push_back(tool_json(tool, "input_schema"));
    }
    return read;
}

void add_choice(Json& chat, const Json& choice) {
    const auto type = choice.is_object() ? string_of(choice, "type") : std::string();
    if (type == "any") chat["tool_choice"] = "required";
    if (type == "auto" || type == "none") chat["tool_choice"] = type;
    if (type == "tool") chat["tool_choice"] = choice_json(choice);
    if (choice.is_object() && choice.value("disable_parallel_tool_use", Json()) == true)
        chat["parallel_tool_calls"] = false;
}

}  // namespace

ApiResult<Json> chat_of_messages(const Json& body) {
    constexpr size_t kMaxUser = 1024;
    Json chat = Json::object();
    Json messages = Json::array();
    if (body.contains("system")) {
        auto system = text_of_blocks(body["system"], "system");
        if (!system) return std::unexpected(system.error());
        if (!system->empty()) messages.push_back({{"role", "system"}, {"content", *system}});
    }
    const auto list = body.value("messages", Json());
    if (!list.is_array() || list.empty()) return invalid("messages must be an array of messages", "messages");
    for (size_t i = 0; i < list.size(); i++)
        if (auto added = add_message(messages, list[i], i); !added) return std::unexpected(added.error());
    for (const auto& [name, value] : body.items()) {
        if (name == "messages" || name == "system") continue;
        if (name == "stop_sequences") {
            chat["stop"] = value;
        } else if (name == "tools") {
            auto tools = tools_of_messages(value);
            if (!tools) return std::unexpected(tools.error());
            chat["tools"] = std::move(*tools);
        } else if (name == "tool_choice") {
            add_choice(chat, value);
        } else if (name == "thinking") {
            if (!value.is_object()) continue;
            chat["enable_thinking"] = string_of(value, "type") != "disabled";
            if (value.contains("budget_tokens")) chat["reasoning_budget"] = value["budget_tokens"];
        } else if (name == "metadata") {
            if (value.is_object()) chat["user"] = string_of(value, "user_id").substr(0, kMaxUser);
        } else if (name != "anthropic_version" && name != "betas" && name != "context_management" &&
                   name != "output_config" && name != "container" && name != "mcp_servers") {
            chat[name] = value;
        }
    }
    for (const char* other : {"n", "logprobs", "top_logprobs"}) chat.erase(other);  // not of this API
    chat["messages"] = std::move(messages);
    return chat;
}

}  // namespace cake::server
