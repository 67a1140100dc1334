#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cake/batcher.hpp"
#include "cake/engine.hpp"
#include "server/api_error.hpp"
#include "server/body.hpp"
#include "server/tool_constraints.hpp"
#include "text/reply_reader.hpp"
#include "text/reply_style.hpp"

namespace cake::server {

class DocumentShelf;

/// How the reasoning of models is handled.
struct ReasoningOptions {
    bool is_content = false;  // it is not told apart from the rest of the answer
    int64_t max_tokens = -1;  // -1: no limit; 0: the template is asked for none
};

/// Defaults and limits for parsing requests.
struct RequestContext {
    const Engine& engine;
    SequenceOptions sequence;  // default options of a sequence
    SamplingOptions sampling;
    int32_t max_choices = 1;
    int64_t n_ctx = 0;
    size_t max_prompts = 1;  // maximum number of prompts in a request
    ChatOptions chat{};      // default options of the chat template
    ReplyStyle style{};
    ReasoningOptions reasoning{};
    ToolConstraints& tool_constraints;
    DocumentShelf& documents;
    const BatcherLimits& limits;
};

struct Prompt {
    std::vector<Token> tokens;
    std::string text{};  // only if it is sent back
};

/// A request for one or several answers.
struct CompletionRequest {
    bool stream = false;
    bool include_usage = false;      // for a stream: send the usage in a last chunk
    bool echo = false;               // send the prompt before the answer
    bool return_tokens = false;      // send the tokens of the answer
    bool timings_per_token = false;  // send the timings with each part of a stream
    std::vector<Prompt> prompts{};   // each gets generation.n_choices answers
    GenerationRequest generation{};  // without a prompt
    ReplyOptions reply{};
    std::vector<std::string> not_enforced{};  // keywords of the schema that the answer does not keep to
    Json cache_salt{};                        // what the request says about whose sequences it may continue
    std::vector<std::string> unknown{};       // fields that have no effect
};

/// Parse a body as specified by the OpenAI API, plus the fields `kv_budget`, `policy`, `document`, `cache_prompt`,
/// `grammar`, `chat_template_kwargs` and llama.cpp's sampling fields. The error names a field that has a wrong value or
/// is not supported; unknown fields are no error.
ApiResult<CompletionRequest> read_chat_request(const RequestContext& context, Body body);
ApiResult<CompletionRequest> read_text_request(const RequestContext& context, Body body);
/// Parse a body as specified by llama.cpp's own API: /completion and /infill.
ApiResult<CompletionRequest> read_native_request(const RequestContext& context, Body body);
ApiResult<CompletionRequest> read_infill_request(const RequestContext& context, Body body);

/// A request of /tokenize: the tokens of the field `content`.
struct TokenizeRequest {
    std::vector<Token> tokens;
    bool with_pieces = false;
};
ApiResult<TokenizeRequest> read_tokenize_request(const Engine& engine, std::string_view body);
/// Parses a request of /detokenize: the tokens of the field `tokens`.
ApiResult<std::vector<Token>> read_detokenize_request(const Engine& engine, std::string_view body);

}  // namespace cake::server
