#include "engine/conversation_note.hpp"

#include <algorithm>
#include <limits>

#include "engine/json_fields.hpp"
#include "text/json_text.hpp"

namespace cake {

namespace {

std::optional<ChatMessage> read_message(const Json& saved) {
    Fields fields(saved);
    ChatMessage message;
    fields.text("role", message.role);
    fields.text("content", message.content);
    if (!fields.first_wrong().empty()) return std::nullopt;
    return message;
}

}  // namespace

std::string write_conversation_note(const ConversationNote& note) {
    Json messages = Json::array();
    for (const auto& message : note.messages)
        messages.push_back({{"role", message.role}, {"content", message.content}});
    Json saved{{"messages", std::move(messages)}};
    if (note.is_begun()) {
        saved["begun_tokens"] = note.begun_tokens;
        saved["chat_template"] = note.chat_template;
    }
    if (!note.note.empty()) saved["note"] = note.note;
    return json_text(saved);
}

std::optional<ConversationNote> read_conversation_note(const std::string& text) {
    const Json saved = parse_json(text);
    if (!saved.is_object() || !saved.contains("messages") || !saved["messages"].is_array()) return std::nullopt;
    ConversationNote note;
    for (const auto& one : saved["messages"]) {
        auto message = read_message(one);
        if (!message) return std::nullopt;
        note.messages.push_back(std::move(*message));
    }
    Fields fields(saved);
    if (saved.contains("note")) fields.text("note", note.note);
    if (saved.contains("begun_tokens")) {
        fields.unsigned64("chat_template", note.chat_template);
        const auto is_token = [](const Json& token) {
            return token.is_number_unsigned() && token.get<uint64_t>() <= std::numeric_limits<int32_t>::max();
        };
        const Json& tokens = saved["begun_tokens"];
        if (!tokens.is_array() || !std::ranges::all_of(tokens, is_token) || note.messages.empty()) return std::nullopt;
        note.begun_tokens = tokens.get<std::vector<int32_t>>();
    }
    if (!fields.first_wrong().empty()) return std::nullopt;
    return note;
}

}  // namespace cake
