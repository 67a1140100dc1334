#include "engine/conversation_note.hpp"

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
    if (note.is_begun) saved["begun"] = true;
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
    if (saved.contains("begun")) fields.flag("begun", note.is_begun);
    if (saved.contains("note")) fields.text("note", note.note);
    if (!fields.first_wrong().empty() || (note.is_begun && note.messages.empty())) return std::nullopt;
    return note;
}

}  // namespace cake
