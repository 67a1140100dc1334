#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cake/policy.hpp"

namespace cake {

// Parts of DefensiveKV. `top`, `mean`, …: [n_keys], keys outside the window.

/// Raises every score to at least the mean of all.
std::vector<float> defended(std::span<const float> top);

/// Mean over the query heads of the layer of the attention that the last `window` keys before the window receive. The
/// authors' code uses it as the window's own attention.
double window_bias(std::span<const HeadKeys> heads, int32_t window);

/// Indices of the keys that are pinned: in falling order of `mean`, which is normalised to a sum of 1, as long as their
/// sum stays below `share`, and at most `limit` of them. Ascending.
std::vector<int32_t> pinned_keys(std::span<const float> mean, double share, int64_t limit);

/// Scores of the scored head before its keys are pinned.
std::vector<float> unpinned_scores(const ScorerInput& input);

/// Max number of keys that a KV head pins: its budget outside the window, less the window.
int64_t pin_limit(const ScorerInput& input);

}  // namespace cake
