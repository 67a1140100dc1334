#include "text/repetition.hpp"

#include <algorithm>
#include <cstddef>

namespace cake {

bool repeats_itself(std::string_view text) {
    constexpr size_t kSpan = 1000;
    constexpr size_t kLongestPassage = 200;
    if (text.size() < kSpan) return false;
    const auto end = text.substr(text.size() - kSpan);
    for (size_t length = 1; length <= kLongestPassage; length++)
        if (std::ranges::equal(end.substr(length), end.substr(0, kSpan - length))) return true;
    return false;
}

}  // namespace cake
