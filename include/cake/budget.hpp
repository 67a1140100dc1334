#pragma once

#include <cstdint>
#include <variant>

namespace cake {

/// Average number of tokens that a layer keeps, including the window and the slack of decoding. Layers that attend to a
/// sliding window keep that window in addition.
struct TokensPerLayer {
    int64_t tokens = 1024;
    bool operator==(const TokensPerLayer&) const = default;
};

/// K/V memory in bytes, for all layers together, including those with a sliding window.
struct KvBytes {
    uint64_t bytes = 0;
    bool operator==(const KvBytes&) const = default;
};

/// Fraction of the first prompt's tokens that a layer keeps on average, above 0 and at most 1. A layer keeps at least
/// the window.
struct KvRatio {
    double ratio = 1;
    bool operator==(const KvRatio&) const = default;
};

using Budget = std::variant<TokensPerLayer, KvBytes, KvRatio>;

}  // namespace cake
