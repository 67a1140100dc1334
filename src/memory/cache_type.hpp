#pragma once

#include <ggml.h>

#include <string>

#include "cake/error.hpp"

namespace cake {

/// The types that keys and values can be stored as.
inline constexpr ggml_type kCacheTypes[] = {GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_F32, GGML_TYPE_Q8_0,
                                            GGML_TYPE_Q4_0};

/// The type of K or V with this ggml name. Fails for any other name, listing the valid ones.
Result<ggml_type> parse_cache_type(const std::string& name);

}  // namespace cake
