#include "server/respond.hpp"

#include <string>

#include "server/answer_writer.hpp"
#include "text/json_text.hpp"

namespace cake::server {

namespace {

constexpr const char* kJson = "application/json";

}  // namespace

void send(httplib::Response& response, const ApiError& error, std::string_view path) {
    response.status = error.status;
    if (error.retry_after.count() > 0) response.set_header("Retry-After", std::to_string(error.retry_after.count()));
    response.set_content(path.starts_with("/v1/messages") ? messages_error(error) : to_json(error), kJson);
}

void send(httplib::Response& response, const Json& json) {
    response.set_content(json_text(json), kJson);
}

}  // namespace cake::server
