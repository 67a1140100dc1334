#pragma once

#include <ggml.h>

#include <string>

#include "cake/error.hpp"

namespace cake {

/// The type of K or V that a name stands for, in ggml's names; fails with those that there are.
Result<ggml_type> parse_cache_type(const std::string& name);

}  // namespace cake
