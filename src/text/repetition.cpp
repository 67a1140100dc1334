#include "text/repetition.hpp"

#include <algorithm>
#include <cstddef>

namespace cake {

namespace {

/// Number of bytes at the end of `text` that are one passage of `length` bytes, over and over.
size_t length_of_loop(std::string_view text, size_t length) {
    const auto later = text.substr(std::min(length, text.size()));
    const auto same = std::mismatch(later.rbegin(), later.rend(), text.rbegin() + static_cast<ptrdiff_t>(length));
    return length + static_cast<size_t>(same.first - later.rbegin());
}

}  // namespace

bool repeats_itself(std::string_view text) {
    constexpr size_t kSpan = 1000;
    constexpr size_t kSpanOfSentences = 500;
    constexpr size_t kLongestPassage = 200;
    constexpr size_t kSentence = 40;  // a list or a table may hold the same shorter piece many times
    constexpr size_t kTimes = 4;
    for (size_t length = 1; length <= kLongestPassage && length < text.size(); length++) {
        const size_t n = length_of_loop(text, length);
        if (n >= kSpan) return true;
        // Passages of a multiple of this length are the same loop.
        if (n >= std::max(kTimes * length, kSpanOfSentences)) return length >= kSentence;
    }
    return false;
}

}  // namespace cake
