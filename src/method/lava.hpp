#pragma once

#include <vector>

#include "cake/policy.hpp"
#include "method/pooling.hpp"

namespace cake {

/// The largest L1 norm of `n` values, [head_dim, n].
float largest_norm(std::span<const float> values, size_t n);

/// LAVa's scores of a KV head with the given pooling: the maximum over its query heads of the pooled mean attention,
/// times the largest L1 norm of a value outside the window.
std::vector<float> lava_score_with(const ScorerInput& input, Pool pool);

/// Entropy of the scores of all KV heads of a layer, normalised to a sum of 1, in units of that of equal scores:
/// between 0 and 1. Scores that are negative, pinned or not finite are left out.
double score_entropy(std::span<const std::span<const float>> scores);

}  // namespace cake
