#include "server/request.hpp"

#include <format>

#include "cake/token_stream.hpp"
#include "server/generation_fields.hpp"

namespace cake::server {

namespace {

constexpr size_t kMaxText = size_t{64} << 20U;

ApiResult<std::vector<Token>> tokens_of(const Engine& engine, std::string_view text, const char* field) {
    auto tokens = TokenStream::whole(engine, text, false);
    if (!tokens) return invalid(tokens.error().message, field);
    if (tokens->empty()) return invalid("there is nothing to read: the prompt contains no tokens", field);
    return std::move(*tokens);
}

std::optional<std::vector<Token>> token_list(const Json& list, const Engine& engine) {
    std::vector<Token> tokens;
    for (const auto& item : list) {
        if (!item.is_number_unsigned()) return std::nullopt;
        const auto token = item.get<uint64_t>();
        if (token >= static_cast<uint64_t>(engine.info().n_vocab)) return std::nullopt;
        tokens.push_back(static_cast<Token>(token));
    }
    return tokens;
}

/// Reads the field `prompt`: a text, an array with one text, or an array of tokens. Returns its tokens, and its text in
/// `text` if that is not null.
ApiResult<std::vector<Token>> read_prompt(Body& body, const Engine& engine, std::string* text) {
    const Json* value = body.find("prompt");
    const Json* single = value;
    if (value != nullptr && value->is_array() && value->size() == 1 && !(*value)[0].is_number()) single = &(*value)[0];
    if (single != nullptr && single->is_string()) {
        if (text != nullptr) *text = single->get<std::string>();
        return tokens_of(engine, single->get_ref<const std::string&>(), "prompt");
    }
    if (single != nullptr && single->is_array() && !single->empty()) {
        if (auto tokens = token_list(*single, engine)) {
            if (text != nullptr)
                for (const Token token : *tokens) *text += engine.piece(token);
            return std::move(*tokens);
        }
    }
    return invalid(std::format("prompt must be one string or one array of tokens below {}", engine.info().n_vocab),
                   "prompt");
}

}  // namespace

ApiResult<CompletionRequest> read_text_request(const RequestContext& context, Body body) {
    CompletionRequest request;
    read_generation_fields(body, context, request);
    auto& generation = request.generation;
    constexpr int64_t kUsualLimit = 16;
    constexpr int64_t kMaxLikeliest = 5;
    const auto limit = read_limit(body, "max_tokens", context);
    const auto llama_limit = read_limit(body, "n_predict", context);
    generation.max_tokens = limit.value_or(llama_limit.value_or(kUsualLimit));
    if (const auto n = body.integer("logprobs", 0, kMaxLikeliest)) generation.n_logprobs = static_cast<int32_t>(*n);
    const bool echo = body.flag("echo").value_or(false);
    if (echo && generation.n_logprobs >= 0)
        body.wrong("echo", "echo with logprobs is not supported: the log probabilities of the prompt are not kept");
    if (const auto best_of = body.integer("best_of", 1, context.max_choices);
        best_of && *best_of != generation.n_choices)
        body.wrong("best_of", "best_of other than n is not supported: leave it out");
    body.unsupported("suffix", {""});
    auto prompt = read_prompt(body, context.engine, echo ? &request.echo : nullptr);
    if (auto read = body.finish(); !read) return std::unexpected(read.error());
    if (!prompt) return std::unexpected(prompt.error());
    generation.prompt = std::move(*prompt);
    request.unknown = body.unknown();
    return request;
}

ApiResult<TokenizeRequest> read_tokenize_request(const Engine& engine, std::string_view text) {
    auto body = Body::parse(text);
    if (!body) return std::unexpected(body.error());
    if (body->find("content") == nullptr) body->wrong("content", "content must be a string");
    const auto content = body->text("content", kMaxText).value_or("");
    const bool add_special = body->flag("add_special").value_or(false);
    const bool with_pieces = body->flag("with_pieces").value_or(false);
    body->ignore({"model"});
    if (auto read = body->finish(); !read) return std::unexpected(read.error());
    auto tokens = add_special ? engine.tokenize(content) : TokenStream::whole(engine, content, true);
    if (!tokens) return invalid(tokens.error().message, "content");
    return TokenizeRequest{.tokens = std::move(*tokens), .with_pieces = with_pieces};
}

ApiResult<std::vector<Token>> read_detokenize_request(const Engine& engine, std::string_view text) {
    auto body = Body::parse(text);
    if (!body) return std::unexpected(body.error());
    const Json* list = body->find("tokens");
    auto tokens = list != nullptr && list->is_array() ? token_list(*list, engine) : std::nullopt;
    if (!tokens)
        body->wrong("tokens", std::format("tokens must be an array of tokens below {}", engine.info().n_vocab));
    body->ignore({"model"});
    if (auto read = body->finish(); !read) return std::unexpected(read.error());
    return tokens.value_or(std::vector<Token>());
}

}  // namespace cake::server
