#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "server/foreign_requests.hpp"
#include "server/tool_json.hpp"
#include "text/utf8.hpp"

namespace cake::server {

namespace {

/// The content of an item as parts of a chat message.
ApiResult<std::string> text_of_content(const Json& content, size_t i) {
    if (content.is_null()) return std::string();
    if (content.is_string()) return content.get<std::string>();
    std::string text;
    for (const auto& part : content) {
        const auto type = part.is_object() ? string_of(part, "type") : std::string();
        if (type == "input_text" || type == "output_text" || type == "text" || type == "reasoning_text" ||
            type == "summary_text")
            text += string_of(part, "text");
        else if (type == "refusal")
            text += string_of(part, "refusal");
        else
            return invalid(fmt::format("input[{}].content has a part of the type \"{}\", which is not supported", i,
                                       beginning_of(type)),
                           "input");
    }
    return text;
}

/// Adds an item of the input to the messages of a chat.
ApiResult<void> add_item(Json& messages, const Json& item, size_t i) {
    if (!item.is_object()) return invalid(fmt::format("input[{}] must be an object", i), "input");
    const auto type = item.contains("type") ? string_of(item, "type") : "message";
    if (type == "message") {
        auto text = text_of_content(item.value("content", Json()), i);
        if (!text) return std::unexpected(text.error());
        messages.push_back({{"role", item.value("role", Json("user"))}, {"content", *text}});
    } else if (type == "function_call" || type == "custom_tool_call") {
        const auto call = call_json(item.value("call_id", Json("")), item.value("name", Json("")),
                                    item.value("arguments", Json("{}")));
        // Calls belong to the assistant's message before them.
        if (!messages.empty() && messages.back()["role"] == "assistant")
            messages.back()["tool_calls"].push_back(call);
        else
            messages.push_back({{"role", "assistant"}, {"content", nullptr}, {"tool_calls", Json::array({call})}});
    } else if (type == "function_call_output" || type == "custom_tool_call_output") {
        const auto output = item.value("output", Json());
        auto text = output.is_string() || output.is_array() ? text_of_content(output, i)
                                                            : ApiResult<std::string>(output.dump());
        if (!text) return std::unexpected(text.error());
        messages.push_back({{"role", "tool"}, {"tool_call_id", item.value("call_id", Json(""))}, {"content", *text}});
    } else if (type == "reasoning") {
        auto text = text_of_content(item.value("content", Json()), i);
        if (text && !text->empty())
            messages.push_back({{"role", "assistant"}, {"content", nullptr}, {"reasoning_content", *text}});
    } else {
        return invalid(fmt::format("input[{}] has the type \"{}\", which is not supported", i, beginning_of(type)),
                       "input");
    }
    return {};
}

/// Joins an assistant's reasoning with the message that follows it, and system messages in a row: templates take one.
Json joined(const Json& messages) {
    Json result = Json::array();
    const auto is_system = [](const Json& message) {
        return message["role"] == "system" || message["role"] == "developer";
    };
    for (const auto& message : messages) {
        if (!result.empty() && is_system(message) && is_system(result.back())) {
            result.back()["content"] =
                result.back()["content"].get<std::string>() + "\n\n" + message["content"].get<std::string>();
            continue;
        }
        const bool follows = !result.empty() && message["role"] == "assistant" &&
                             result.back()["role"] == "assistant" && result.back()["content"].is_null() &&
                             !result.back().contains("tool_calls");
        if (follows)
            result.back().update(message);
        else
            result.push_back(message);
    }
    return result;
}

/// The tools that are functions. Those that OpenAI runs itself cannot be called here.
Json tools_of_responses(const Json& tools) {
    Json read = Json::array();
    for (const auto& tool : tools) {
        if (!tool.is_object() || tool.value("type", Json()) != "function") continue;
        read.push_back(tool_json(tool, "parameters"));
    }
    return read;
}

Json response_format_of(const Json& text) {
    auto format = text.is_object() ? text.value("format", Json()) : Json();
    if (!format.is_object() || string_of(format, "type") != "json_schema") return format;
    return {{"type", "json_schema"},
            {"json_schema", {{"schema", format.value("schema", Json())}, {"strict", format.value("strict", Json())}}}};
}

/// Names of fields that mean the same in a chat completion.
bool is_shared(const std::string& name) {
    static const std::initializer_list<std::string_view> others{"input",
                                                                "instructions",
                                                                "previous_response_id",
                                                                "max_output_tokens",
                                                                "tools",
                                                                "tool_choice",
                                                                "text",
                                                                "reasoning",
                                                                "store",
                                                                "include",
                                                                "truncation",
                                                                "background",
                                                                "conversation",
                                                                "n",
                                                                "logprobs",
                                                                "prompt",
                                                                "max_tool_calls",
                                                                "top_logprobs",
                                                                "stream_options",
                                                                "client_metadata"};
    return std::ranges::find(others, name) == others.end();
}

}  // namespace

ApiResult<ResponsesRequest> chat_of_responses(const Json& body, ResponseStore& store, const std::string& key) {
    ResponsesRequest read{.chat = Json::object(), .fields = Json::object()};
    Json messages = Json::array();
    if (const auto id = string_of(body, "previous_response_id"); !id.empty()) {
        auto earlier = store.get(id, key);
        if (!earlier)
            return invalid("previous_response_id names a response that is not in memory any more: send the whole input",
                           "previous_response_id");
        messages = std::move(*earlier);
    }
    const auto input = body.value("input", Json());
    if (input.is_string()) {
        messages.push_back({{"role", "user"}, {"content", input}});
    } else if (input.is_array()) {
        for (size_t i = 0; i < input.size(); i++)
            if (auto added = add_item(messages, input[i], i); !added) return std::unexpected(added.error());
    } else {
        return invalid("input must be a string or an array of items", "input");
    }
    for (const auto& [name, value] : body.items())
        if (is_shared(name)) read.chat[name] = value;
    if (body.contains("max_output_tokens")) read.chat["max_tokens"] = body["max_output_tokens"];
    if (body.contains("tools") && body["tools"].is_array()) read.chat["tools"] = tools_of_responses(body["tools"]);
    if (const auto choice = body.value("tool_choice", Json()); !choice.is_null()) {
        const bool names = choice.is_object() && string_of(choice, "type") == "function";
        if (names)
            read.chat["tool_choice"] = choice_json(choice);
        else if (choice.is_string())
            read.chat["tool_choice"] = choice;
    }
    if (read.chat.contains("tools") && read.chat["tools"].empty()) read.chat.erase("tool_choice");
    if (const auto format = response_format_of(body.value("text", Json())); !format.is_null())
        read.chat["response_format"] = format;
    if (const auto reasoning = body.value("reasoning", Json()); reasoning.is_object())
        if (const auto effort = string_of(reasoning, "effort"); !effort.empty()) read.chat["reasoning_effort"] = effort;
    // What is kept of a conversation does not name its document.
    read.is_kept = body.value("store", Json()) != false && body.value("document", Json()).is_null();
    for (const char* name :
         {"instructions", "max_output_tokens", "metadata", "parallel_tool_calls", "previous_response_id", "reasoning",
          "store", "temperature", "text", "tool_choice", "tools", "top_p", "truncation", "user"})
        read.fields[name] = body.value(name, Json());
    const auto fill = [&](const char* name, Json value) {
        if (read.fields[name].is_null()) read.fields[name] = std::move(value);
    };
    fill("parallel_tool_calls", true);
    fill("tool_choice", "auto");
    fill("tools", Json::array());
    fill("text", {{"format", {{"type", "text"}}}});
    fill("truncation", "disabled");
    fill("metadata", Json::object());
    fill("reasoning", {{"effort", nullptr}, {"summary", nullptr}});
    fill("store", true);
    // Instructions are of this response alone: the conversation is kept without them.
    Json all = Json::array();
    if (const auto text = string_of(body, "instructions"); !text.empty())
        all.push_back({{"role", "system"}, {"content", text}});
    for (const auto& message : messages) all.push_back(message);
    read.messages = std::move(messages);
    read.chat["messages"] = joined(all);
    return read;
}

}  // namespace cake::server
