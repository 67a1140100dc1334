#pragma once

#include <cstdint>
#include <span>

#include "cake/policy.hpp"

namespace cake {

/// Pools over `kernel` neighbours, stride 1, with a result of the same length. `kernel` is odd. Scores are not
/// negative.
using Pool = void (*)(std::span<const float> in, std::span<float> out, int64_t kernel);

/// Moving average. Neighbours beyond the ends count as 0, and the divisor is always `kernel`.
void average_pool(std::span<const float> in, std::span<float> out, int64_t kernel);
/// Moving maximum. Neighbours beyond the ends are left out.
void max_pool(std::span<const float> in, std::span<float> out, int64_t kernel);

/// Moving maximum of scores that fade with the distance to their neighbours: to an eighth at the ends of the kernel, of
/// which a quarter is before the score and three quarters are after it. It fades further beyond the ends.
void fading_max_pool(std::span<const float> in, std::span<float> out, int64_t kernel);

/// The kernel to use: the user's, or else the published one.
inline int64_t pool_kernel(const ScorerInput& input, int64_t published) {
    return input.pool_kernel > 0 ? input.pool_kernel : published;
}

}  // namespace cake
