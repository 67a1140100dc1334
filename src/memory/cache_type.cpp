#include "memory/cache_type.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace cake {

Result<ggml_type> parse_cache_type(const std::string& name) {
    const auto* type = std::ranges::find_if(kCacheTypes, [&](ggml_type t) { return name == ggml_type_name(t); });
    if (type == std::end(kCacheTypes))
        return fail(fmt::format("there is no cache type \"{}\"; use one of: f16, bf16, f32, q8_0, q4_0", name));
    return *type;
}

}  // namespace cake
