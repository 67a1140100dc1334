#pragma once

#include <vector>

#include "cake/chat.hpp"
#include "server/body.hpp"

namespace cake::server {

/// Reads the field `messages` of a chat completion: the conversation for the chat template. Messages may have calls of
/// tools and their results.
std::vector<ChatMessage> read_messages(Body& body);

/// True for the messages that instruct the model: those of the roles system and developer.
bool is_system(const ChatMessage& message);

}  // namespace cake::server
