#include "text/reply_style.hpp"

#include <fmt/format.h>
#include "text/json_text.hpp"
#include "text/template_renderer.hpp"

namespace cake {

namespace {

using Json = nlohmann::ordered_json;

std::string template_source(const Vocabulary& vocabulary, const ChatOptions& options) {
    if (!options.template_name.empty()) return {};
    if (!options.template_source.empty()) return options.template_source;
    return vocabulary.chat_template("tool_use").value_or("") + vocabulary.chat_template().value_or("");
}

std::string instructions(const std::string& tools) {
    std::string list;
    for (const auto& tool : Json::parse(tools, nullptr, false)) list += json_text(tool) + "\n";
    return fmt::format(
        "# Tools\n\n"
        "You can call functions to help with the request. Each line describes one of them:\n"
        "<tools>\n{}</tools>\n\n"
        "To call a function, write a JSON object with its name and its arguments between these tags:\n"
        "<tool_call>\n{{\"name\": NAME, \"arguments\": {{…}}}}\n</tool_call>",
        list);
}

/// The calls of an assistant's message, as the model would write them.
std::string calls_as_text(const Json& calls) {
    std::string text;
    for (const auto& call : calls) {
        const auto& function = call["function"];
        const Json written{{"name", function["name"]}, {"arguments", function["arguments"]}};
        text += fmt::format("\n<tool_call>\n{}\n</tool_call>", json_text(written));
    }
    return text;
}

}  // namespace

ReplyStyle reply_style_of(const Vocabulary& vocabulary, const ChatOptions& options) {
    const auto source = template_source(vocabulary, options);
    // libllama's own templates, with which a build without the bridge renders, leave tools out.
    const auto* format = can_render_templates() && source.contains("tools") ? reply_format_of(source) : nullptr;
    return {.format = format != nullptr ? format : &usual_reply_format(),
            .template_has_tools = format != nullptr,
            .reasoning = reasoning_marks_of(source)};
}

std::vector<ChatMessage> with_tools_as_text(std::span<const ChatMessage> messages, const std::string& tools) {
    std::vector<ChatMessage> rewritten;
    if (!tools.empty() && (messages.empty() || messages.front().role != "system"))
        rewritten.push_back({.role = "system", .content = instructions(tools)});
    for (const auto& message : messages) {
        ChatMessage copy = message;
        const auto fields = message.fields.empty() ? Json::object() : Json::parse(message.fields, nullptr, false);
        if (message.role == "tool") {
            const auto result = fmt::format("<tool_response>\n{}\n</tool_response>", message.content);
            // Templates want users and assistants to take turns, so that several results are one message.
            if (!rewritten.empty() && rewritten.back().role == "user" && &message != messages.data() &&
                (&message)[-1].role == "tool") {
                rewritten.back().content += "\n" + result;
                continue;
            }
            copy = {.role = "user", .content = result};
        } else if (fields.contains("tool_calls")) {
            copy = {.role = message.role, .content = message.content + calls_as_text(fields["tool_calls"])};
            if (copy.content.starts_with('\n')) copy.content.erase(0, 1);
        } else if (!tools.empty() && rewritten.empty() && message.role == "system") {
            copy.content += "\n\n" + instructions(tools);
        }
        rewritten.push_back(std::move(copy));
    }
    return rewritten;
}

}  // namespace cake
