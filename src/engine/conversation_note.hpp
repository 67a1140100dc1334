#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cake/chat.hpp"

namespace cake {

/// What a session file says about the conversation in it.
struct ConversationNote {
    std::vector<ChatMessage> messages;
    std::string note;  // text of the application
    /// Set if the last message, one of the user, is the beginning of a longer one: its tokens, including those of the
    /// template, and the hash of the template (chat_template_hash()).
    std::vector<int32_t> begun_tokens;
    uint64_t chat_template = 0;

    bool is_begun() const { return !begun_tokens.empty(); }
};

/// The note of a session, as Sequence::set_note() takes it.
std::string write_conversation_note(const ConversationNote& note);

/// Reads what write_conversation_note() wrote. Returns nothing if the note of the session is something else.
std::optional<ConversationNote> read_conversation_note(const std::string& text);

}  // namespace cake
