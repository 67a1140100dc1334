#include "server/answer.hpp"

#include <algorithm>
#include <cmath>
#include <format>

#include "text/optional_json.hpp"
#include "text/utf8.hpp"

namespace cake::server {

namespace {

double seconds(std::chrono::steady_clock::duration duration) {
    return std::chrono::duration<double>(duration).count();
}

/// Limits a log probability to a finite value, because JSON cannot represent infinity.
double finite(float logprob) {
    constexpr double kMin = -9999;
    return std::isfinite(logprob) ? std::max(static_cast<double>(logprob), kMin) : kMin;
}

size_t n_characters(std::string_view utf8) {
    return static_cast<size_t>(
        std::ranges::count_if(utf8, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

Json bytes_of(const std::string& piece) {
    auto bytes = Json::array();
    for (const char c : piece) bytes.push_back(static_cast<unsigned char>(c));
    return bytes;
}

/// The unique key of a token in OpenAI's older format: its text, or "bytes:\xf0\x9f" if its bytes are not complete
/// characters, or the name of a control token, which has no text.
std::string text_key(const Engine& engine, Token token) {
    auto piece = engine.piece(token);
    if (piece.empty()) piece = engine.piece(token, true);
    if (is_utf8(piece)) return piece;
    std::string key = "bytes:";
    for (const char c : piece) {
        const auto byte = static_cast<unsigned char>(c);
        key += byte < 0x80 ? std::string(1, c) : std::format("\\x{:02x}", byte);
    }
    return key;
}

}  // namespace

Answer::Answer(const Engine& engine, CompletionRequest request, std::string model,
               std::shared_ptr<Generation> generation, Metrics& metrics, std::chrono::steady_clock::time_point received)
    : engine_(engine),
      request_(std::move(request)),
      model_(std::move(model)),
      generation_(std::move(generation)),
      metrics_(metrics),
      received_(received),
      created_(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())) {
    for (int32_t i = 0; i < request_.generation.n_choices; i++) {
        choices_.push_back({.text = AnswerText(request_.generation.stop)});
        choices_.back().said = to_utf8(request_.echo);
    }
}

bool Answer::wait(std::chrono::milliseconds most) {
    const auto event = generation_->next(most);
    if (!event) return false;
    if (const auto* read = std::get_if<PromptRead>(&event->what)) {
        n_cached_ = read->n_cached;
        metrics_.add_prompt(std::ssize(request_.generation.prompt), n_cached_);
    } else if (const auto* drawn = std::get_if<TokenDrawn>(&event->what)) {
        take(*drawn, event->when);
    } else {
        take(std::get<ChoiceEnded>(event->what));
    }
    return true;
}

void Answer::take(const TokenDrawn& drawn, std::chrono::steady_clock::time_point when) {
    auto& choice = choices_[static_cast<size_t>(drawn.choice)];
    if (choice.finish_reason) return;  // a stop string has ended it already
    if (choice.begun)
        metrics_.add_next_token(seconds(when - choice.last));
    else
        metrics_.add_first_token(seconds(when - received_));
    choice.begun = true;
    choice.last = when;
    n_drawn_++;
    if (request_.generation.n_logprobs >= 0) {
        choice.drawn.push_back(drawn);
        choice.offsets.push_back(n_characters(choice.said) + n_characters(choice.text.held()));
    }
    choice.said += choice.text.add(engine_.piece(drawn.token));
    if (!choice.text.stopped()) return;
    choice.finish_reason = "stop";  // the batcher will report the same
}

void Answer::take(const ChoiceEnded& ended) {
    auto& choice = choices_[static_cast<size_t>(ended.choice)];
    if (choice.finish_reason) return;
    choice.said += choice.text.finish();
    switch (ended.reason) {
        case FinishReason::length:
            choice.finish_reason = "length";
            return;
        case FinishReason::end_of_generation:
            choice.finish_reason = "stop";
            return;
        case FinishReason::cancelled:
            error_ = ApiError{.status = kUnavailable, .message = "the server is being stopped: try again later"};
            break;
        case FinishReason::failed:
            error_ = ApiError{.status = ended.error.code == Error::Code::invalid_argument ? kInvalid : kFailed,
                              .message = ended.error.message,
                              .param = ended.by_constraint ? "grammar" : ""};
            break;
    }
    generation_->cancel();
}

bool Answer::is_done() const {
    return error_ ||
           std::ranges::all_of(choices_, [](const Choice& choice) { return choice.finish_reason.has_value(); });
}

Json Answer::shape(const char* object) const {
    Json shape{{"id", request_.generation.id},
               {"object", object},
               {"created", created_},
               {"model", model_},
               {"choices", Json::array()}};
    if (request_.stream && request_.include_usage) shape["usage"] = nullptr;  // closing() sets it in the last chunk
    return shape;
}

Json Answer::usage() const {
    const auto n_prompt = std::ssize(request_.generation.prompt);
    return {{"prompt_tokens", n_prompt},
            {"completion_tokens", n_drawn_},
            {"total_tokens", n_prompt + n_drawn_},
            {"prompt_tokens_details", {{"cached_tokens", n_cached_}}}};
}

Json Answer::logprobs(const Choice& choice, size_t first) const {
    if (request_.generation.n_logprobs < 0) return nullptr;
    return request_.chat ? chat_logprobs(choice, first) : text_logprobs(choice, first);
}

Json Answer::chat_logprobs(const Choice& choice, size_t first) const {
    const auto entry = [&](Token token, float logprob) {
        const auto piece = engine_.piece(token);
        return Json{{"token", to_utf8(piece)}, {"logprob", finite(logprob)}, {"bytes", bytes_of(piece)}};
    };
    auto content = Json::array();
    for (size_t i = first; i < choice.drawn.size(); i++) {
        const auto& drawn = choice.drawn[i];
        auto of_token = entry(drawn.token, drawn.logprob);
        of_token["top_logprobs"] = Json::array();
        for (const auto& [token, logprob] : drawn.likeliest) of_token["top_logprobs"].push_back(entry(token, logprob));
        content.push_back(std::move(of_token));
    }
    return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json Answer::text_logprobs(const Choice& choice, size_t first) const {
    Json result{{"tokens", Json::array()},
                {"token_logprobs", Json::array()},
                {"top_logprobs", Json::array()},
                {"text_offset", Json::array()}};
    for (size_t i = first; i < choice.drawn.size(); i++) {
        const auto& drawn = choice.drawn[i];
        const auto key = text_key(engine_, drawn.token);
        auto likeliest = Json::object();
        for (const auto& [token, logprob] : drawn.likeliest)
            likeliest.emplace(text_key(engine_, token), finite(logprob));
        if (request_.generation.n_logprobs > 0) likeliest[key] = finite(drawn.logprob);
        result["tokens"].push_back(key);
        result["token_logprobs"].push_back(finite(drawn.logprob));
        result["top_logprobs"].push_back(std::move(likeliest));
        result["text_offset"].push_back(choice.offsets[i]);
    }
    return result;
}

Json Answer::whole() const {
    auto body = shape(request_.chat ? "chat.completion" : "text_completion");
    for (size_t i = 0; i < choices_.size(); i++) {
        const auto& choice = choices_[i];
        Json of_choice{{"index", i}};
        if (request_.chat)
            of_choice["message"] = {{"role", "assistant"}, {"content", choice.said}, {"refusal", nullptr}};
        else
            of_choice["text"] = choice.said;
        of_choice["logprobs"] = logprobs(choice, 0);
        of_choice["finish_reason"] = value_or_null<Json>(choice.finish_reason);
        body["choices"].push_back(std::move(of_choice));
    }
    body["usage"] = usage();
    return body;
}

std::vector<Json> Answer::opening() const {
    std::vector<Json> chunks;
    if (!request_.chat) return chunks;
    for (size_t i = 0; i < choices_.size(); i++) {
        auto chunk = shape("chat.completion.chunk");
        chunk["choices"].push_back({{"index", i},
                                    {"delta", {{"role", "assistant"}, {"content", ""}}},
                                    {"logprobs", nullptr},
                                    {"finish_reason", nullptr}});
        chunks.push_back(std::move(chunk));
    }
    return chunks;
}

std::vector<Json> Answer::chunks() {
    std::vector<Json> chunks;
    for (size_t i = 0; i < choices_.size(); i++) {
        auto& choice = choices_[i];
        const bool finishes = choice.finish_reason && !choice.finish_sent;
        const bool says = choice.n_bytes_sent < choice.said.size();
        const bool tells = choice.n_sent < choice.drawn.size() && (finishes || says);
        const auto send = [&](bool last) {
            const auto fresh = choice.said.substr(choice.n_bytes_sent);
            auto chunk = shape(request_.chat ? "chat.completion.chunk" : "text_completion");
            Json of_choice{{"index", i}};
            if (request_.chat)
                of_choice["delta"] = fresh.empty() ? Json::object() : Json{{"content", fresh}};
            else
                of_choice["text"] = fresh;
            of_choice["logprobs"] =
                tells && choice.n_sent < choice.drawn.size() ? logprobs(choice, choice.n_sent) : Json();
            of_choice["finish_reason"] = last ? Json(*choice.finish_reason) : Json();
            chunk["choices"].push_back(std::move(of_choice));
            chunks.push_back(std::move(chunk));
            choice.n_bytes_sent = choice.said.size();
            choice.n_sent = choice.drawn.size();
        };
        if (says || tells) send(false);
        if (finishes) send(true);
        choice.finish_sent = choice.finish_sent || finishes;
    }
    return chunks;
}

std::optional<Json> Answer::closing() const {
    if (!request_.include_usage) return std::nullopt;
    auto chunk = shape(request_.chat ? "chat.completion.chunk" : "text_completion");
    chunk["usage"] = usage();
    return std::optional<Json>(std::in_place, std::move(chunk));
}

}  // namespace cake::server
