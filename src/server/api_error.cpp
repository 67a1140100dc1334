#include "server/api_error.hpp"
#include "text/json_text.hpp"

#include <nlohmann/json.hpp>

namespace cake::server {

namespace {

const char* type_of(int status) {
    if (status == kUnauthorized) return "authentication_error";
    if (status == kUnavailable) return "overloaded_error";
    return status >= kFailed ? "server_error" : "invalid_request_error";
}

nlohmann::json text_or_null(const std::string& text) {
    return text.empty() ? nlohmann::json() : nlohmann::json(text);
}

}  // namespace

std::string to_json(const ApiError& error) {
    const nlohmann::json body{{"error",
                               {{"message", error.message},
                                {"type", type_of(error.status)},
                                {"param", text_or_null(error.param)},
                                {"code", text_or_null(error.code)}}}};
    return json_text(body);
}

}  // namespace cake::server
