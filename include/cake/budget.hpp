#pragma once

#include <cstdint>
#include <variant>

namespace cake {

/// The average number of tokens that a layer keeps, the window and the slack of decoding included. Layers that attend
/// to a sliding window keep just that, beside this.
struct TokensPerLayer {
    int64_t tokens = 1024;
    bool operator==(const TokensPerLayer&) const = default;
};

/// K/V memory in bytes, for all layers together.
struct KvBytes {
    uint64_t bytes = 0;
    bool operator==(const KvBytes&) const = default;
};

/// A share of the first prompt's full cache, above 0 and at most 1.
struct KvRatio {
    double ratio = 1;
    bool operator==(const KvRatio&) const = default;
};

using Budget = std::variant<TokensPerLayer, KvBytes, KvRatio>;

}  // namespace cake
