#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace cake {

/// A character of a UTF-8 text; n_bytes is 0 if no valid character begins there.
struct Utf8Character {
    uint32_t value = 0;
    uint32_t n_bytes = 0;  // 0: no valid character
};

/// Decodes the character that begins at `at`. Overlong forms, surrogates and values above U+10FFFF are not valid
/// (RFC 3629).
inline Utf8Character utf8_character(std::string_view text, size_t at) {
    const auto byte = [&](size_t i) -> uint32_t {
        return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0xFFU;
    };
    const uint32_t first = byte(0);
    if (first < 0x80) return {.value = first, .n_bytes = 1};
    const uint32_t n = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4) return {};
    uint32_t value = first & (0x7FU >> n);
    for (uint32_t i = 1; i < n; i++) {
        if ((byte(i) & 0xC0U) != 0x80U) return {};
        value = (value << 6U) | (byte(i) & 0x3FU);
    }
    const uint32_t least = n == 2 ? 0x80 : n == 3 ? 0x800 : 0x10000;
    if (value < least || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return {};
    return {.value = value, .n_bytes = n};
}

inline bool is_utf8(std::string_view text) {
    for (size_t at = 0; at < text.size();) {
        const auto character = utf8_character(text, at);
        if (character.n_bytes == 0) return false;
        at += character.n_bytes;
    }
    return true;
}

/// Number of bytes at the end of a text that begin a character without completing it.
inline size_t bytes_begun(std::string_view text) {
    constexpr size_t kMaxBytes = 4;
    for (size_t n = 1; n < kMaxBytes && n <= text.size(); n++) {
        for (const char rest : {'\x80', '\xBF'}) {
            const auto whole = std::string(text.substr(text.size() - n)) + std::string(kMaxBytes - n, rest);
            if (utf8_character(whole, 0).n_bytes > n) return n;
        }
    }
    return 0;
}

/// The beginning of a text that may be long, for error messages.
inline std::string beginning_of(std::string_view text, size_t max_bytes = 40) {
    if (text.size() <= max_bytes) return std::string(text);
    size_t n = max_bytes;
    while (n > 0 && (static_cast<unsigned char>(text[n]) & 0xC0U) == 0x80U) n--;
    return std::string(text.substr(0, n)) + "…";
}

}  // namespace cake
