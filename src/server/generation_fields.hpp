#pragma once

#include <cstdint>
#include <optional>

#include "server/body.hpp"
#include "server/request.hpp"

namespace cake::server {

/// Reads the fields that all kinds of requests have.
void read_generation_fields(Body& body, const RequestContext& context, CompletionRequest& request);

/// Reads what a request says about whose sequences it may continue.
Json read_cache_salt(Body& body);

/// Reads a maximum number of tokens; -1 is none.
std::optional<int64_t> read_limit(Body& body, const char* name, const RequestContext& context);

}  // namespace cake::server
