#pragma once

#include <cstdint>
#include <limits>
#include <span>

namespace cake {

/// Score of a token outside the window that stays before all others.
inline constexpr float kPinnedScore = std::numeric_limits<float>::max();

/// Tokens at the beginning of a text that attract attention whatever they say (attention sinks, StreamingLLM).
inline constexpr int32_t kSinks = 4;

/// Pins the sinks. `positions`: [n_keys], like `scores`.
inline void pin_sinks(std::span<const int32_t> positions, std::span<float> scores) {
    for (size_t j = 0; j < positions.size(); j++)
        if (positions[j] < kSinks) scores[j] = kPinnedScore;
}

}  // namespace cake
