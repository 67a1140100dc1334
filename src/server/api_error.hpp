#pragma once

#include <chrono>
#include <expected>
#include <string>

namespace cake::server {

// Status codes of HTTP (RFC 9110) that errors have.
inline constexpr int kInvalid = 400;
inline constexpr int kUnauthorized = 401;
inline constexpr int kForbidden = 403;
inline constexpr int kNotFound = 404;
inline constexpr int kTimeout = 408;
inline constexpr int kTooLarge = 413;
inline constexpr int kUnsupported = 415;
inline constexpr int kFailed = 500;
inline constexpr int kUnavailable = 503;

/// An error that a request gets, in the shape of the OpenAI API.
struct ApiError {
    int status = kInvalid;
    std::string message{};  // one sentence
    std::string param{};    // the field that is wrong, where it is one
    std::string code{};
    std::chrono::seconds retry_after{0};
};

template <typename T>
using ApiResult = std::expected<T, ApiError>;

inline std::unexpected<ApiError> invalid(std::string message, std::string param = {}) {
    return std::unexpected(ApiError{.message = std::move(message), .param = std::move(param)});
}

/// The body that says so.
std::string to_json(const ApiError& error);

}  // namespace cake::server
