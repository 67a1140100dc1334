#pragma once

#include <chrono>
#include <expected>
#include <string>

namespace cake::server {

/// An error that a request gets, in the shape of the OpenAI API.
struct ApiError {
    int status = 400;
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
