#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace cake {

/// Parses JSON from outside. The result is discarded (is_discarded()) if the text is not JSON, and std::nullopt if it
/// nests deeper than `max_depth` levels, which could take a lot of memory, or if an object has more than `max_fields`
/// fields, which nlohmann::ordered_json searches one by one. `Json` is one of nlohmann's types.
template <typename Json>
std::optional<Json> parse_bounded(std::string_view text, int max_depth, size_t max_fields = 2000) {
    bool is_beyond = false;
    std::vector<size_t> n_fields(static_cast<size_t>(max_depth) + 2);  // number for the open object at each depth
    auto parsed = Json::parse(
        text,
        [&](int depth, typename Json::parse_event_t event, Json&) {
            is_beyond = is_beyond || depth > max_depth;
            if (is_beyond) return false;
            const auto level = static_cast<size_t>(depth);
            if (event == Json::parse_event_t::object_start) n_fields[level + 1] = 0;
            if (event == Json::parse_event_t::key) is_beyond = ++n_fields[level] > max_fields;
            return !is_beyond;
        },
        false);
    if (is_beyond) return std::nullopt;
    return std::optional<Json>(std::in_place, std::move(parsed));
}

}  // namespace cake
