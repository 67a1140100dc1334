#pragma once

#include "server/body.hpp"
#include "server/response_store.hpp"

namespace cake::server {

/// Rewrites a request of Anthropic's Messages API as a chat completion.
ApiResult<Json> chat_of_messages(const Json& body);

/// A request of OpenAI's Responses API, as a chat completion.
struct ResponsesRequest {
    Json chat;
    Json fields;      // fields for the response to repeat
    Json messages{};  // the conversation, without the instructions
    bool is_kept = true;
};

ApiResult<ResponsesRequest> chat_of_responses(const Json& body, ResponseStore& store, const std::string& key);

}  // namespace cake::server
