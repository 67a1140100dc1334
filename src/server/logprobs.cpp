#include "server/logprobs.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text/utf8.hpp"

namespace cake::server {

namespace {

/// Limits a log probability to a finite value, because JSON cannot represent infinity.
double finite(float logprob) {
    constexpr double kMin = -9999;
    return std::isfinite(logprob) ? std::max(static_cast<double>(logprob), kMin) : kMin;
}

Json bytes_of(const std::string& piece) {
    auto bytes = Json::array();
    for (const char c : piece) bytes.push_back(static_cast<unsigned char>(c));
    return bytes;
}

/// The tokens of a choice from number `first` on, each as `entry` writes it and with the likeliest ones beside it.
template <typename Entry>
Json with_likeliest(const Choice& choice, size_t first, Entry entry, const char* likeliest = "top_logprobs") {
    auto list = Json::array();
    for (size_t i = first; i < choice.drawn.size(); i++) {
        const auto& drawn = choice.drawn[i];
        Json of_token = entry(drawn.token, drawn.logprob);
        of_token[likeliest] = Json::array();
        for (const auto& [token, logprob] : drawn.likeliest) of_token[likeliest].push_back(entry(token, logprob));
        list.push_back(std::move(of_token));
    }
    return list;
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
        key += byte < 0x80 ? std::string(1, c) : fmt::format("\\x{:02x}", byte);
    }
    return key;
}

}  // namespace

Json chat_logprobs(const Answer& answer, const Choice& choice, size_t first) {
    const auto entry = [&](Token token, float logprob) {
        const auto piece = answer.engine().piece(token);
        return Json{{"token", to_utf8(piece)}, {"logprob", finite(logprob)}, {"bytes", bytes_of(piece)}};
    };
    return {{"content", with_likeliest(choice, first, entry)}, {"refusal", nullptr}};
}

Json native_logprobs(const Answer& answer, const Choice& choice, size_t first) {
    const bool is_post_sampling = answer.request().generation.post_sampling_probs;
    const auto entry = [&](Token token, float logprob) {
        const auto piece = answer.engine().piece(token);
        Json of_token{{"id", token}, {"token", to_utf8(piece)}, {"bytes", bytes_of(piece)}};
        if (is_post_sampling)
            of_token["prob"] = std::exp(logprob);
        else
            of_token["logprob"] = finite(logprob);
        return of_token;
    };
    return with_likeliest(choice, first, entry, is_post_sampling ? "top_probs" : "top_logprobs");
}

Json text_logprobs(const Answer& answer, const Choice& choice, size_t first) {
    Json result{{"tokens", Json::array()},
                {"token_logprobs", Json::array()},
                {"top_logprobs", Json::array()},
                {"text_offset", Json::array()}};
    for (size_t i = first; i < choice.drawn.size(); i++) {
        const auto& drawn = choice.drawn[i];
        const auto key = text_key(answer.engine(), drawn.token);
        auto likeliest = Json::object();
        for (const auto& [token, logprob] : drawn.likeliest)
            likeliest.emplace(text_key(answer.engine(), token), finite(logprob));
        if (answer.request().generation.n_logprobs > 0) likeliest[key] = finite(drawn.logprob);
        result["tokens"].push_back(key);
        const bool is_rated = !std::isnan(drawn.logprob);  // the first token of a prompt is not
        result["token_logprobs"].push_back(is_rated ? Json(finite(drawn.logprob)) : Json());
        result["top_logprobs"].push_back(is_rated ? std::move(likeliest) : Json());
        result["text_offset"].push_back(choice.offsets[i]);
    }
    return result;
}

}  // namespace cake::server
