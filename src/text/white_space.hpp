#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace cake {

/// White space of ASCII.
inline bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

inline size_t n_spaces(std::string_view text) {
    return static_cast<size_t>(std::ranges::find_if_not(text, is_space) - text.begin());
}

inline size_t n_spaces_at_end(std::string_view text) {
    size_t n = 0;
    while (n < text.size() && is_space(text[text.size() - 1 - n])) n++;
    return n;
}

/// The text without white space around it.
inline std::string_view trimmed(std::string_view text) {
    text.remove_prefix(n_spaces(text));
    text.remove_suffix(n_spaces_at_end(text));
    return text;
}

}  // namespace cake
