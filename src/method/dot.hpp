#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace cake {

/// Dot product, summed in lanes so that the compiler can vectorise it.
inline float dot(std::span<const float> a, std::span<const float> b) {
    constexpr size_t kLanes = 8;
    std::array<float, kLanes> sums{};
    size_t d = 0;
    for (; d + kLanes <= a.size(); d += kLanes)
        for (size_t lane = 0; lane < kLanes; lane++) sums[lane] += a[d + lane] * b[d + lane];
    float sum = 0;
    for (; d < a.size(); d++) sum += a[d] * b[d];
    for (const float part : sums) sum += part;
    return sum;
}

}  // namespace cake
