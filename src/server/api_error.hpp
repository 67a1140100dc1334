#pragma once

#include <chrono>
#include <expected>
#include <string>

namespace cake::server {

// HTTP status codes (RFC 9110).
inline constexpr int kGood = 200;
inline constexpr int kNoContent = 204;
inline constexpr int kInvalid = 400;
inline constexpr int kUnauthorized = 401;
inline constexpr int kForbidden = 403;
inline constexpr int kNotFound = 404;
inline constexpr int kTimeout = 408;
inline constexpr int kTooLarge = 413;
inline constexpr int kUnsupported = 415;
inline constexpr int kFailed = 500;
inline constexpr int kNotSupported = 501;
inline constexpr int kUnavailable = 503;

/// The error response to a request, as in the OpenAI API.
struct ApiError {
    int status = kInvalid;
    std::string message{};  // one sentence
    std::string param{};    // name of the field that is wrong, if any
    std::string code{};
    std::chrono::seconds retry_after{0};
};

template <typename T>
using ApiResult = std::expected<T, ApiError>;

inline std::unexpected<ApiError> invalid(std::string message, std::string param = {}) {
    return std::unexpected(ApiError{.message = std::move(message), .param = std::move(param)});
}

/// The body of the response.
std::string to_json(const ApiError& error);

}  // namespace cake::server
