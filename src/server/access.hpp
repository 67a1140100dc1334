#pragma once

#include <httplib.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "server/api_error.hpp"

namespace cake::server {

constexpr size_t kMaxBodyBytes = size_t{32} << 20U;

/// The sentence for a body that exceeds kMaxBodyBytes.
std::string too_large();

struct AccessRules {
    const std::string& host;                   // address that the server listens on
    const std::string& cors;                   // origin of pages that may use the server, or "*"; empty: none
    const std::vector<std::string>& api_keys;  // empty: none is asked for
};

/// A random ID that cannot be guessed, because it gives access to the text of a request (/slots/ID).
std::string random_id(std::string_view prefix);

/// The key that a request sends, as OpenAI's or as Anthropic's clients do; empty if there is none.
std::string key_of(const httplib::Request& request);

/// Whether a text is a numeric IP address.
bool is_address(const std::string& host);

/// The address of the client. A connection from one of the `proxies` is made for the client that X-Forwarded-For names:
/// its last address that does not belong to another proxy.
std::string address_of(const httplib::Request& request, const std::vector<std::string>& proxies);

/// The address of a client behind a trusted proxy; empty for one that asks directly.
std::string forwarded_address_of(const httplib::Request& request, const std::vector<std::string>& proxies);

/// Checks the headers of a request before its body is read: where it comes from, its key, and its announced size.
ApiResult<void> check_access(const httplib::Request& request, const AccessRules& rules);

}  // namespace cake::server
