#pragma once

#include <optional>
#include <string_view>
#include <utility>

namespace cake {

/// Parses JSON from outside. The result is discarded (is_discarded()) if the text is not JSON, and std::nullopt if it
/// nests deeper than `max_depth` levels, which could take a lot of memory. `Json` is one of nlohmann's types.
template <typename Json>
std::optional<Json> parse_bounded(std::string_view text, int max_depth) {
    bool is_deep = false;
    auto parsed = Json::parse(
        text,
        [&](int depth, typename Json::parse_event_t, Json&) {
            is_deep = is_deep || depth > max_depth;
            return !is_deep;
        },
        false);
    if (is_deep) return std::nullopt;
    return std::optional<Json>(std::in_place, std::move(parsed));
}

}  // namespace cake
