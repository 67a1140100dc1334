#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cake/engine.hpp"
#include "server/api_error.hpp"
#include "serving/generation.hpp"

namespace cake::server {

/// What requests are read against.
struct RequestContext {
    const Engine& engine;
    SequenceOptions sequence;  // of a request that says nothing else
    SamplingOptions sampling;
    int32_t most_choices = 1;
    int64_t n_ctx = 0;
    ChatOptions chat{};  // of a request that says nothing else
};

/// A request of /v1/chat/completions or /v1/completions.
struct CompletionRequest {
    bool chat = false;
    bool stream = false;
    bool include_usage = false;  // a last chunk with it, where it streams
    std::string echo{};          // text before the answer
    GenerationRequest generation{};
};

/// Both read a body as the OpenAI API has it, with `kv_budget`, `policy`, `cache_prompt`, `grammar`,
/// `chat_template_kwargs` and llama.cpp's sampling fields beside; what is out of bounds, or not known, is refused by
/// its name.
ApiResult<CompletionRequest> read_chat_request(const RequestContext& context, std::string_view body);
ApiResult<CompletionRequest> read_text_request(const RequestContext& context, std::string_view body);

/// A body with `content`, a text, as tokens.
struct TokenizeRequest {
    std::vector<Token> tokens;
    bool with_pieces = false;
};
ApiResult<TokenizeRequest> read_tokenize_request(const Engine& engine, std::string_view body);
/// A body with `tokens`.
ApiResult<std::vector<Token>> read_detokenize_request(const Engine& engine, std::string_view body);

}  // namespace cake::server
