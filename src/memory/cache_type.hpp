#pragma once

#include <ggml.h>

#include <string>

#include "cake/error.hpp"

namespace cake {

/// The type of K or V with this ggml name. Fails for any other name, listing the valid ones.
Result<ggml_type> parse_cache_type(const std::string& name);

}  // namespace cake
