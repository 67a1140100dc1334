#pragma once

#include <httplib.h>

#include <string_view>

#include "server/api_error.hpp"
#include "server/body.hpp"

namespace cake::server {

/// Sends an error in the format of the API to which the path belongs.
void send(httplib::Response& response, const ApiError& error, std::string_view path = {});
void send(httplib::Response& response, const Json& json);

}  // namespace cake::server
