#pragma once

#include <httplib.h>

#include <cstddef>
#include <string>

#include "server/api_error.hpp"

namespace cake::server {

constexpr size_t kMaxBodyBytes = size_t{32} << 20U;

/// The sentence for a body that exceeds kMaxBodyBytes.
std::string too_large();

struct AccessRules {
    const std::string& host;     // address that the server listens on
    const std::string& api_key;  // empty: none is asked for
};

/// Checks the headers of a request before its body is read: where it comes from, its key, and its announced size.
ApiResult<void> check_access(const httplib::Request& request, const AccessRules& rules);

}  // namespace cake::server
