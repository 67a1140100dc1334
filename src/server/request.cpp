#include "server/request.hpp"

#include <fmt/format.h>

#include "cake/token_stream.hpp"
#include "engine/engine_state.hpp"
#include "server/prompt_fields.hpp"

namespace cake::server {

ApiResult<TokenizeRequest> read_tokenize_request(const Engine& engine, std::string_view text) {
    auto body = Body::parse(text);
    if (!body) return std::unexpected(body.error());
    // vLLM has other names, and adds special tokens unless it is told not to.
    const bool is_vllm = body->find("content") == nullptr && body->find("prompt") != nullptr;
    const char* const field = is_vllm ? "prompt" : "content";
    if (body->find(field) == nullptr) body->wrong(field, "content must be a string");
    const auto content = body->text(field, kMaxPromptBytes).value_or("");
    const bool add_special = body->flag(is_vllm ? "add_special_tokens" : "add_special").value_or(is_vllm);
    const bool with_pieces = body->flag("with_pieces").value_or(false);
    const bool written_out = body->flag("parse_special").value_or(true);
    body->ignore({"model"});
    if (auto read = body->finish(); !read) return std::unexpected(read.error());
    auto tokens = written_out ? (add_special ? engine.tokenize(content) : TokenStream::whole(engine, content, true))
                              : EngineAccess::state(engine)->vocabulary.tokenize(
                                    content, {.around = add_special, .written_out = false});
    if (!tokens) return invalid(tokens.error().message, field);
    return TokenizeRequest{.tokens = std::move(*tokens), .with_pieces = with_pieces};
}

ApiResult<std::vector<Token>> read_detokenize_request(const Engine& engine, std::string_view text) {
    auto body = Body::parse(text);
    if (!body) return std::unexpected(body.error());
    const Json* list = body->find("tokens");
    auto tokens = list != nullptr && list->is_array() ? token_list(*list, engine) : std::nullopt;
    if (!tokens)
        body->wrong("tokens", fmt::format("tokens must be an array of tokens below {}", engine.info().n_vocab));
    body->ignore({"model"});
    if (auto read = body->finish(); !read) return std::unexpected(read.error());
    return tokens.value_or(std::vector<Token>());
}

}  // namespace cake::server
