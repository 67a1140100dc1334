#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace cake {

/// Number of bytes at the end of `text` that begin `word`, which is not empty, without completing it.
inline size_t n_begun(std::string_view text, std::string_view word) {
    size_t n = std::min(word.size() - 1, text.size());
    while (!text.ends_with(word.substr(0, n))) n--;
    return n;
}

}  // namespace cake
